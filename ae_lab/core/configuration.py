"""The configuration: where its files are, composing it, and keys that it does not have."""

import difflib
import inspect
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_object, to_absolute_path
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.errors import UserError, suggest

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the configuration lies inside the package, in a checkout beside it.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())

# Old names, and the new ones that the error message of an old one gives.
RENAMED = {
    "experiments": "experiment",
    "measures": "run_metrics",
    "path": "data.source.path",
    "data.binary": "data.binarize",
    "data.shift": "data.random_shift",
    "data.flip": "data.random_flip",
    "objective.kl.free": "objective.kl.free_bits",
    "objective.kl.of": "objective.kl.key",
    "objective.reconstruction.sigma": "likelihood.sigma",
    "scale.long": "scale.epochs_generation",
    "scale.short": "scale.epochs_large",
    "scale.images": "scale.max_digits",
    "scale.photographs": "scale.max_photos",
    "picture": "figure",
    "picture.reach": "figure.quantile",
    "picture.span": "figure.num_std",
    "tuned_on": "evaluator.denoisers.num_tuning_images",
    "methods": "evaluator.denoisers.methods",
    "inception": "evaluator.samples.inception",
    "projection": "evaluator.latents.projection",
    "samples": "evaluator.likelihood.samples",
    "objective/bernoulli": "objective=likelihood",
    "objective/elbo_gaussian": "objective=elbo likelihood=gaussian",
    "objective/elbo_ladder_gaussian": "objective=elbo_ladder likelihood=gaussian",
    "objective/iwae_gaussian": "objective=iwae likelihood=gaussian",
    "experiment/cnn_line": "experiment=cnn_ablation",
    "model/cnn_vae": "model=vae body=cnn",
    "model/cnn_iwae": "model=iwae body=cnn",
    "model/cnn_cvae": "model=cvae body=cnn",
    "model/cnn_ladder_vae": "model=ladder_vae body=cnn",
    "picture/plane": "figure=latent_grid",
    "picture/edit": "figure=label_swap",
    "figure/plane": "figure=latent_grid",
    "figure/edit": "figure=label_swap",
}
# Hydra's own plugins, each a package to install.
PLUGINS = {
    "hydra/launcher": ("basic", "joblib", "ray", "rq", "submitit"),
    "hydra/sweeper": ("ax", "basic", "nevergrad", "optuna"),
}
RENAMED_FOLDERS = {
    "preset/line": "cnn_ablation",
    "preset/outlook": "future_work",
    "preset/level": "noise_level",
}


def compose(overrides: Iterable[str] = (), name: str = "config", **options) -> DictConfig:
    """The configuration that a command with these overrides would get, inside of one or not."""
    current = GlobalHydra.instance()
    caller, current.hydra = current.hydra, None
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose(name, overrides=list(overrides), **options)
    finally:
        GlobalHydra.instance().hydra = caller


def path_from_start(path: str | Path) -> Path:
    """A path that a person typed: relative to where the command was started, wherever Hydra may
    have moved the process since (hydra.job.chdir=true)."""
    path = Path(path)
    return path if path.is_absolute() else Path(os.path.relpath(to_absolute_path(str(path))))


def choices() -> dict[str, str]:
    """The choice made in each of our groups, as Hydra knows them in a job."""
    if not HydraConfig.initialized():
        return {}
    items = HydraConfig.get().runtime.choices.items()
    return {str(k): str(v) for k, v in items if not k.startswith("hydra/") and v is not None}


def overrides() -> list[str]:
    """What a person typed for this job."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def search_path(hydra_settings: DictConfig) -> list[str]:
    """What a person typed so that Hydra also finds configuration outside of `conf/`."""
    typed = hydra_settings.overrides.hydra
    return [text for text in typed if text.startswith("hydra.searchpath=")]


@cache
def load_file(config_name: str) -> DictConfig:
    """The file of a configuration as it is written; every job of a sweep asks for it."""
    return OmegaConf.load(CONF / f"{config_name}.yaml")


def groups_of(config_name: str) -> list[str]:
    """The groups from which a configuration chooses."""
    defaults = load_file(config_name).defaults
    names = [str(key) for entry in defaults if entry != "_self_" for key in entry]
    return [name for name in names if not name.startswith("override ")]


def describe(config_name: str) -> str:
    """What `--help` says of a configuration: its groups with their choices, and its file."""
    lines = []
    for group in groups_of(config_name):
        names = sorted(file.stem for file in (CONF / group).glob("*.yaml"))
        lines.append(f"  {group:<12}{', '.join(names)}")
    own = (CONF / f"{config_name}.yaml").read_text().partition("\nhydra:")[0]
    return "\n".join(
        [
            "Groups, as group=choice:\n",
            *lines,
            f"\nSettings, as key=value: conf/{config_name}.yaml, whose lines are\n",
            *(f"  {line}" for line in own.splitlines() if "override hydra" not in line),
            "\n--cfg job prints all settings, those of the chosen parts too.",
        ]
    )


def check_top_level(config: DictConfig, config_name: str) -> None:
    """Refuse keys at the top that the configuration does not have (Hydra accepts `+typo=1`).

    Raises:
        UserError: names the nearest valid key.
    """
    allowed = {*map(str, load_file(config_name)), *groups_of(config_name)} - {"defaults", "hydra"}
    for key in map(str, config):
        if key == "experiment":  # a file without a package of its own: it sets nothing of a run
            raise UserError(f"experiment={choices().get(key)} is not an experiment: name another")
        if key not in allowed:
            raise UserError(explain_unknown(key, config_name))


def check_parts(config: DictConfig) -> None:
    """Refuse keys that no parameter of a part's class has (Hydra accepts `+model.typo=1`).

    Raises:
        UserError: names the nearest parameter.
    """
    parts = OmegaConf.to_container(config, resolve=False)
    parts.pop("run_metrics", None)  # computed after the runs, by packages that are slow to import
    _check_part(parts, "")


def _check_part(node: object, path: str) -> None:
    if not isinstance(node, dict):
        return
    if target := node.get("_target_"):
        signature = inspect.signature(get_object(target)).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in signature.values()):
            for key in node:
                if not key.startswith("_") and key not in signature:
                    usable = [name for name in signature if name != "self"]
                    name = f"{path}{key}"
                    raise UserError(f"{path[:-1]} has no '{name}': {suggest(key, usable)}")
    for key, value in node.items():
        _check_part(value, f"{path}{key}.")


def explain_unknown(name: str, config_name: str) -> str:
    """What to write instead of a group's choice, or a key, that does not exist."""
    if name in RENAMED:
        new = RENAMED[name]
        return f"'{name.replace('/', '=')}' is called '{new}' now"
    group, _, choice = name.rpartition("/")
    if group in PLUGINS:
        plugin = choice.partition("_")[0]
        if plugin not in PLUGINS[group]:
            return f"{group}={choice} is not known: {suggest(plugin, PLUGINS[group])}"
        package = f"hydra-{plugin}-{group.rpartition('/')[2]}"
        return f"{group}={choice} is not installed: pip install {package}"
    if group in RENAMED_FOLDERS:
        unit = "db" if group == "preset/level" else ""
        new = f"preset={RENAMED_FOLDERS[group]}/{choice}{unit}"
        return f"'preset={group.partition('/')[2]}/{choice}' is called '{new}' now"
    if group and (CONF / group).is_dir():
        available = [path.stem for path in (CONF / group).glob("*.yaml")]
        return f"{group}={choice} is not known: {suggest(choice, available)}"
    parent, _, key = name.rpartition(".")
    files = sorted((CONF / parent).glob("*.yaml")) if parent else []
    if options := [f"{parent}={file.stem}" for file in files if key in OmegaConf.load(file)]:
        return f"{name} needs {' or '.join(options)}"
    keys = known_keys(sys.argv[1:], config_name)
    siblings = [key for key in keys if key.rpartition(".")[0] == parent]
    if parent == "trainer" and not difflib.get_close_matches(name, siblings, n=1, cutoff=0.85):
        return f"{name} is not set yet: arguments of Lightning's trainer are added as +{name}=..."
    return f"there is no key '{name}': {suggest(name, siblings or keys)}"


def known_keys(overrides: Iterable[str], config_name: str) -> list[str]:
    """All dotted keys of a configuration, with the groups' choices that `overrides` make."""
    groups = set(groups_of(config_name)) - {"experiment"}
    chosen = [text for text in overrides if text.partition("=")[0] in groups and "," not in text]
    config = compose(chosen, config_name)
    keys = {*map(str, config), *groups, *flatten(OmegaConf.to_container(config))}
    return sorted(key for key in keys if "._" not in key)


def flatten(config: DictConfig | dict, prefix: str = "") -> dict[str, object]:
    """A nested configuration as {dotted key: value}, interpolations resolved, lists as leaves."""
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config, resolve=True)
    leaves: dict[str, object] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves
