"""What configuration that others wrote may build: parts of ae_lab, and what a person trusts.

A run's folder may come from anyone, and a `_target_` in it may name any function there is. What a
person types is trusted, also what it names in files of their own; what a folder says is checked
before anything of it is imported.
"""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from ae_lab.core.errors import UserError

VARIABLE = "AE_LAB_TRUST"
# What our own configuration builds of libraries; `activation=` may be any class of torch.nn.
FROM_LIBRARIES = (
    *("builtins.tuple", "torchmetrics.MeanAbsoluteError"),
    "torchmetrics.image.MultiScaleStructuralSimilarityIndexMeasure",
    *("pytorch_lightning.Trainer", "pytorch_lightning.callbacks.EMAWeightAveraging"),
    "pytorch_lightning.callbacks.ModelCheckpoint",
    *(f"pytorch_lightning.loggers.{name}Logger" for name in ("MLFlow", "TensorBoard", "Wandb")),
    *(f"vector_quantize_pytorch.{name}" for name in ("FSQ", "ResidualVQ", "VectorQuantize")),
    "zuko.flows.MaskedAutoregressiveTransform",
)
# What `pip install 'ae_lab[...]'` brings.
EXTRAS = {"vector_quantize_pytorch": "quantized", "zuko": "flows", "optuna": "optuna"}
_trusted: set[str] = set()  # by this process


def trust(*names: str) -> None:
    """Let folders of runs name these classes, or any that these packages define."""
    _trusted.update(names)


def trust_command(config: DictConfig) -> None:
    """Trust what a command's own configuration names, and the packages of its key `trust`.

    Raises:
        UserError: that key is no name and no list of names.
    """
    words = config.get("trust") or []
    names = [words] if isinstance(words, str) else words
    if not isinstance(names, list | ListConfig) or not all(isinstance(n, str) for n in names):
        raise UserError(f"trust must be a list of packages, as in trust=[my_parts], got {words}")
    trust(*names, *named_in(OmegaConf.to_container(config, resolve=False)))


def check_trusted(config: DictConfig, source: Path, parts: Iterable[str]) -> None:
    """Check, before they are built, parts of a configuration that comes from a folder.

    Raises:
        UserError: it names what is neither a part of ae_lab nor trusted, or not installed.
    """
    built = [config[part] for part in parts if OmegaConf.is_config(config.get(part))]
    names = dict.fromkeys(
        name for one in built for name in named_in(OmegaConf.to_container(one, resolve=True))
    )
    for name in names:
        check_installed(name)
    if foreign := [name for name in names if not (is_part(name) or is_trusted(name))]:
        listed = ",".join(foreign)
        raise UserError(
            f"{source} builds {', '.join(foreign)}, which is no part of ae_lab: if you know that "
            f"code and where the folder is from, trust=[{listed}], or {VARIABLE}={listed} in the "
            "environment, lets it run; so does the name of its package"
        )


def check_installed(name: str) -> None:
    """Check that the package of a class, if it is an optional one, is installed.

    Raises:
        UserError: it is not.
    """
    package = name.partition(".")[0]
    if package in EXTRAS and find_spec(package) is None:
        raise UserError(f"{name} is not installed: pip install 'ae_lab[{EXTRAS[package]}]'")


def named_in(node: object) -> Iterator[str]:
    """The dotted names of classes and functions that a nested configuration has."""
    if isinstance(node, list):
        for value in node:
            yield from named_in(value)
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_" or (key == "activation" and "." in str(value)):
                yield str(value)
            yield from named_in(value)


def is_part(name: str) -> bool:
    """Whether a name is listed by a package of ae_lab, or is what our own files name elsewhere.

    A module, function or method that is reached through one of our modules is not listed.
    """
    package, _, attribute = name.rpartition(".")
    if package == "torch.nn":
        return _is_module_class(name)
    if package.partition(".")[0] == "ae_lab" and package.count(".") == 1:
        try:
            return attribute in getattr(import_module(package), "__all__", ())
        except ImportError:
            return False
    return name in FROM_LIBRARIES


def _is_module_class(name: str) -> bool:
    from torch import nn

    found = getattr(nn, name.rpartition(".")[2], None)
    return isinstance(found, type) and issubclass(found, nn.Module)


def is_trusted(name: str) -> bool:
    """Whether a person trusts a name, or the package that defines what it names.

    Raises:
        UserError: Python does not find it.
    """
    trusted = {*_trusted, *filter(None, os.environ.get(VARIABLE, "").split(","))}
    if name in trusted:
        return True
    packages = [package for package in trusted if name.startswith(f"{package}.")]
    if not packages:
        return False
    try:
        defined = str(getattr(get_object(name), "__module__", ""))
    except Exception as error:
        raise UserError(f"Python does not find {name}: run the command where it does") from error
    return is_below(defined, packages)


def is_below(module: str, packages: Iterable[str]) -> bool:
    """Whether a module lies in the same top package as one of some names."""
    return module.partition(".")[0] in {name.partition(".")[0] for name in packages}
