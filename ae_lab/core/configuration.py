"""The configuration: where its files are, composing it, and keys that it does not have."""

import difflib
import os
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.errors import UserError, suggest

_PACKAGE = Path(__file__).resolve().parent.parent
# In a wheel the configuration lies inside the package, in a checkout beside it.
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())

CLAIMS = "claims"  # lies among the experiments, and is none

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
# What other programs call our settings.
OTHER_NAMES = {
    **dict.fromkeys(("learning_rate", "learning-rate", "optimizer.lr"), "lr"),
    **dict.fromkeys(("latent_dim", "latent_dims", "latent_size", "z_dim", "dim", "z"), "latent"),
    **dict.fromkeys(("hidden_dims", "hidden_sizes", "layers", "units"), "hidden"),
    **dict.fromkeys(("batch", "bs"), "batch_size"),
    **dict.fromkeys(("max_epochs", "num_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("gpus", "num_gpus", "devices"), "trainer.devices"),
    **dict.fromkeys(("device", "accelerator", "gpu", "cuda"), "trainer.accelerator"),
    **dict.fromkeys(("precision", "amp"), "trainer.precision"),
    **dict.fromkeys(("dataset", "datamodule"), "data"),
    **dict.fromkeys(("loss", "criterion"), "objective"),
    **dict.fromkeys(("clip", "grad_clip", "gradient_clip_val"), "gradient_clip"),
    **dict.fromkeys(("beta", "kl_weight"), "objective.kl.weight"),
    **dict.fromkeys(("sigma", "noise_level"), "noise.sigma"),
    **dict.fromkeys(("model/denoising", "model/dae"), "noise=gaussian"),
    **dict.fromkeys(("model/ae", "model/dense", "model/fc"), "model=mlp"),
    **dict.fromkeys(("model/beta_vae", "model/betavae"), "model=vae objective.kl.weight=4"),
    **dict.fromkeys(("output_dir", "outputs", "log_dir"), "paths.outputs"),
}
# Hydra's own plugins, each a package to install.
PLUGINS = {
    "hydra/launcher": ("basic", "joblib", "local", "ray", "rq", "submitit"),
    "hydra/sweeper": ("ax", "basic", "grid", "nevergrad", "optuna"),
}
FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run"),
    *("--multirun", "--shell-completion", "--config-path", "--config-name", "--config-dir"),
    *("--experimental-rerun", "--info", "-h", "-c", "-p", "-r", "-m", "-sc", "-cp", "-cn"),
    *("-cd", "-i"),
)
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


def resolve_paths(config: DictConfig) -> None:
    """Make the folders of a configuration relative to where the command was started."""
    for name, path in config.get("paths", {}).items():
        config.paths[name] = str(path_from_start(path))


def without_hydra(config: DictConfig) -> DictConfig:
    """A configuration that Hydra composed as a job's task gets it, without Hydra's own settings."""
    return OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])


def choices(hydra_settings: DictConfig | None = None) -> dict[str, str]:
    """The choice made in each of our groups, as Hydra's settings of a job have them; those of the
    job that runs in this process unless others are given."""
    if hydra_settings is None:
        if not HydraConfig.initialized():
            return {}
        hydra_settings = HydraConfig.get()
    items = hydra_settings.runtime.choices.items()
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


def default_choices(config_name: str) -> dict[str, object]:
    """The groups from which a configuration chooses, and what it chooses unless told."""
    entries = [entry for entry in load_file(config_name).defaults if entry != "_self_"]
    choices = {str(key): value for entry in entries for key, value in entry.items()}
    return {key: value for key, value in choices.items() if not key.startswith("override ")}


def groups_of(config_name: str) -> list[str]:
    """The groups from which a configuration chooses."""
    return list(default_choices(config_name))


def choices_of(group: str) -> list[str]:
    """The choices of a group, those in folders as folder/choice."""
    files = sorted((CONF / group).rglob("*.yaml"))
    names = [str(file.relative_to(CONF / group).with_suffix("")) for file in files]
    return [name for name in names if not name.startswith("shared/") and name != CLAIMS]


def check_flags(words: Iterable[str]) -> None:
    """Check that what begins with a dash is a flag of Hydra's.

    Raises:
        UserError: it is not; says how settings are written.
    """
    for word in words:
        flag = word.partition("=")[0]
        if word.startswith("-") and not any(known.startswith(flag) for known in FLAGS):
            raise UserError(
                f"there is no flag {flag}: settings are written without dashes, as in latent=5, "
                "and --help lists them"
            )


def check_choices(words: Iterable[str], config_name: str) -> None:
    """Check that a group that is named is given a choice, for which Hydra's own error says too
    little.

    Raises:
        UserError: a word gives null, a number or an empty list.
    """
    for word in words:
        group, equals, choice = word.lstrip("+").partition("=")
        if equals and group in groups_of(config_name):
            names = [name.strip("[]'\" ") for name in choice.split(",")]
            is_name = all(name and not name.replace(".", "").isdigit() for name in names)
            if not is_name or choice.lower() in ("null", "true", "false"):
                leave = "leave it out, or " if default_choices(config_name)[group] is None else ""
                available = ", ".join(choices_of(group))
                raise UserError(f"{word} is no choice: {leave}choose from: {available}")


def describe(config_name: str) -> str:
    """What `--help` says of a configuration: its groups with their choices, and its file."""
    lines = []
    for group in groups_of(config_name):
        folded = (name.partition("/") for name in choices_of(group))
        names = sorted({f"{first}/..." if slash else first for first, slash, _ in folded})
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


def explain_unknown(name: str, config_name: str) -> str:
    """What to write instead of a group's choice, or a key, that does not exist."""
    if name in RENAMED:
        new = RENAMED[name]
        return f"'{name.replace('/', '=')}' is called '{new}' now"
    if name.lower() in OTHER_NAMES and config_name == "config":
        typed = name.replace("/", "=")
        kind = "choice" if "/" in name else "key"
        return f"there is no {kind} '{typed}': did you mean '{OTHER_NAMES[name.lower()]}'?"
    ours = [group for group in groups_of(config_name) if name.startswith(f"{group}/")]
    group, _, choice = name.partition("/") if ours else name.rpartition("/")
    if group in PLUGINS:
        plugin = choice.partition("_")[0]
        if plugin not in PLUGINS[group]:
            return f"{group}={choice} is not known: {suggest(plugin, PLUGINS[group])}"
        package = f"hydra-{plugin}-{group.rpartition('/')[2]}"
        return f"{group}={choice} is not installed: pip install {package}"
    folder, _, file = choice.rpartition("/")
    if f"{group}/{folder}" in RENAMED_FOLDERS:
        unit = "db" if folder == "level" else ""
        new = f"preset={RENAMED_FOLDERS[f'{group}/{folder}']}/{file}{unit}"
        return f"'{group}={choice}' is called '{new}' now"
    if group == "data" and Path(choice).is_dir():
        return f"data={choice} is a folder: write data=folder data.source.path={choice}"
    if group and (CONF / group).is_dir():
        return f"{group}={choice} is not known: {suggest(choice, choices_of(group))}"
    group, _, key = name.partition(".")
    if group == "hydra":
        return f"Hydra has no setting '{name}'"
    files = sorted((CONF / group).glob("*.yaml")) if key else []
    if options := [f"{group}={file.stem}" for file in files if has_key(OmegaConf.load(file), key)]:
        return f"{name} needs {' or '.join(options)}"
    parent = name.rpartition(".")[0]
    keys = known_keys(sys.argv[1:], config_name)
    siblings = [key for key in keys if key.rpartition(".")[0] == parent]
    if parent == "trainer" and not difflib.get_close_matches(name, siblings, n=1, cutoff=0.85):
        return f"{name} is not set yet: arguments of Lightning's trainer are added as +{name}=..."
    if name in siblings:
        return f"{name} has no such keys yet: add each as +{name}.key=value"
    cure = suggest(name, siblings or keys)
    if cure.startswith("choose") and len(siblings or keys) > 20:
        cure = "--help lists those there are"
    return f"there is no key '{name}': {cure}"


def has_key(config: DictConfig, key: str) -> bool:
    """Whether a file sets a dotted key, to whatever value."""
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(config, parent, throw_on_resolution_failure=False) if parent else config
    return isinstance(node, DictConfig) and last in node


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
        if OmegaConf.is_config(value):
            value = OmegaConf.to_container(value, resolve=True)
        name = f"{prefix}{key}"
        leaves |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves
