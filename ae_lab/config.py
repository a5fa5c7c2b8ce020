"""Hydra's side of the package: where the configuration is, and errors a person can act on."""

import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ae_lab.errors import RunFailed, UserError, nearest

_HERE = Path(__file__).resolve().parent


def at_least(value: object, threshold: float, then: object, otherwise: object) -> object:
    """`${at_least:${latent},8,A,B}` in a configuration: A if the value is 8 or more, else B."""
    return then if isinstance(value, int | float) and value >= threshold else otherwise


OmegaConf.register_new_resolver("at_least", at_least, replace=True)
_launched = "config"  # the name of the configuration that a command line is about
CONF = next(path for path in (_HERE / "conf", _HERE.parent / "conf") if path.is_dir())


def say(error: BaseException) -> int:
    """Print an error as one line, below its traceback if AE_LAB_TRACEBACK=1 asks for that; the
    exit code that belongs to it."""
    if os.environ.get("AE_LAB_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"error: {explain(error)}", file=sys.stderr)
    return 1 if isinstance(root(error), RunFailed) else 2


def root(error: BaseException) -> BaseException:
    """Our own error among an error's causes (Hydra wraps what constructors raise), else itself."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError | RunFailed):
            return cause
        cause = cause.__cause__ or cause.__context__
    return error


def explain(error: BaseException) -> str:
    """One line on what went wrong."""
    error = root(error)
    text = " ".join(str(error).split())
    if isinstance(error, UserError | RunFailed):
        return text
    if missing := re.search(r"(?:Could not find|Could not override) '([^']+)'", text):
        return _unknown(missing[1])
    if isinstance(error, HydraException | OmegaConfBaseException):
        return text
    return f"{type(error).__name__}: {text}"


def _unknown(name: str) -> str:
    """A choice of a group, or a key, that does not exist."""
    group, _, choice = name.rpartition("/")
    if (CONF / group).is_dir() and group:
        available = [path.stem for path in (CONF / group).glob("*.yaml")]
        return f"{group}={choice} is not known: {nearest(choice, available)}"
    parent, _, key = name.rpartition(".")
    files = sorted((CONF / parent).glob("*.yaml")) if parent else []
    if having := [file.stem for file in files if key in OmegaConf.load(file)]:
        options = " or ".join(f"{parent}={one}" for one in having)
        return f"there is no key '{name}' here: take {options}, which have it"
    keys = known_keys(sys.argv[1:])
    siblings = [key for key in keys if parent and key.startswith(f"{parent}.")]
    return f"there is no key '{name}': {nearest(name, siblings or keys)}"


def known_keys(overrides: Iterable[str]) -> list[str]:
    """All dotted keys of the configuration, with the groups' choices that `overrides` make."""
    from ae_lab.identity import flat

    groups = set(groups_of(_launched)) - {"experiments"}
    choices = [text for text in overrides if text.partition("=")[0] in groups and "," not in text]
    config = composed(choices, _launched)
    keys = {*map(str, config), *groups, *flat(OmegaConf.to_container(config))}
    return sorted(key for key in keys if "._" not in key)


def composed(overrides: Iterable[str] = (), name: str = "config", **options) -> DictConfig:
    """The configuration that a command with these overrides would get, outside of one."""
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(name, overrides=list(overrides), **options)


def groups_of(config_name: str) -> list[str]:
    """The groups from which a configuration chooses."""
    defaults = OmegaConf.load(CONF / f"{config_name}.yaml").defaults
    names = [str(key) for entry in defaults if entry != "_self_" for key in entry]
    return [name for name in names if not name.startswith("override ")]


def check(config: DictConfig) -> None:
    """Refuse keys that no part would understand (`+model.typo=1` is accepted by Hydra).

    Raises:
        UserError: an unknown key at the top or in a part; names the nearest valid one.
    """
    top = OmegaConf.load(CONF / "config.yaml")
    allowed = {*map(str, top), *groups_of("config")}
    allowed -= {"defaults", "hydra", "preset", "experiments"}
    for key in config:
        if key == "experiments":  # a file without a package of its own: it sets nothing of a run
            raise UserError(f"experiments={choices().get(key)} is no study: name another")
        if key not in allowed:
            raise UserError(f"there is no key '{key}': {nearest(key, allowed)}")
    _check_parts(OmegaConf.to_container(config, resolve=False), "")


def _check_parts(node: object, path: str) -> None:
    """Compare the keys of every node that has a `_target_` with the target's parameters."""
    if not isinstance(node, dict):
        return
    if target := node.get("_target_"):
        signature = inspect.signature(get_object(target)).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in signature.values()):
            for key in node:
                if not key.startswith("_") and key not in signature:
                    usable = [name for name in signature if name != "self"]
                    name = f"{path}{key}"
                    raise UserError(f"{path[:-1]} has no '{name}': {nearest(key, usable)}")
    for key, value in node.items():
        _check_parts(value, f"{path}{key}.")


def choices() -> dict[str, str]:
    """The choice made in each of our groups, as Hydra knows them in a job."""
    if not HydraConfig.initialized():
        return {}
    made = HydraConfig.get().runtime.choices
    return {str(k): str(v) for k, v in made.items() if not k.startswith("hydra/") and v is not None}


def overrides() -> list[str]:
    """What a person typed for this job."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def guarded(task: Callable[[DictConfig], object]) -> Callable[[DictConfig], None]:
    """A task that ends the process itself when it fails, before Hydra adds lines of its own."""

    def run(config: DictConfig) -> None:
        try:
            task(config)
        except Exception as error:
            sys.exit(say(error))

    return run


def launch(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Run a Hydra app. What goes wrong becomes one line and an exit code: 2 for what cannot be
    done as asked, 1 for a run that failed."""
    global _launched
    _launched = config_name
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, we explain
    app = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)
    try:
        app()
    except Exception as error:
        sys.exit(say(error))
