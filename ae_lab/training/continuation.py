"""Runs that begin with another one: `extend` goes on with it, `init_from` takes its weights."""

import shutil

from omegaconf import DictConfig, OmegaConf

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.core.files import replace_atomically
from ae_lab.core.trust import check_trusted
from ae_lab.models import Autoencoder
from ae_lab.tracking.identity import affects_result, digest, is_within
from ae_lab.tracking.run import Run

# What a run that goes on may have other than the run it extends: when it ends.
ENDS = ("epochs", "early_stopping", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")
ENDS += ("trainer.min_epochs", "trainer.min_steps")


def parent_run(config: DictConfig) -> Run | None:
    """The run that this one begins with.

    Raises:
        UserError: there is none, it is not finished, or both keys name one.
    """
    if config.extend is not None and config.init_from is not None:
        raise UserError("extend takes all of a run, init_from its weights: give one of them")
    key = "init_from" if config.extend is None else "extend"
    if config[key] is None:
        return None
    parent = Run(configuration.path_from_start(config[key]))
    if not parent.done:
        raise UserError(
            f"{key}={config[key]} is not a finished run: `python -m ae_lab.runs` lists them"
        )
    return parent


def extend_config(config: DictConfig, parent: Run) -> DictConfig:
    """The configuration of the parent with what a person typed beside `extend`.

    Raises:
        UserError: that would change more than when the run ends, or the parent's configuration
            builds what is not trusted.
    """
    if not (typed := configuration.overrides()):
        raise UserError(
            "extend is for commands: from Python, extend_config cannot see what changes"
        )
    groups = configuration.groups_of("config")
    for word in typed:
        if (key := word.lstrip("+~").partition("=")[0]) in groups:
            raise UserError(f"extend={config.extend} keeps the run's {key}: leave out {word}")
    words = [word.lstrip("+") for word in typed]
    extended = OmegaConf.merge(parent.config, OmegaConf.from_dotlist(words))
    before, after = configuration.flatten(parent.config), configuration.flatten(extended)
    used = [key for key in extended if key not in ("figures", "run_metrics", "hydra")]
    check_trusted(extended, parent.path, used)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    for key in sorted(changed):
        if affects_result(key) and not is_within(key, ENDS):
            raise UserError(
                f"extend={config.extend} goes on with the run's settings, and {key} is another: "
                "leave it out, or begin anew from the run's weights with init_from"
            )
    return extended


def parent_identity(config: DictConfig, parent: Run | None) -> dict[str, str]:
    """What a run's identity says of the run it begins with."""
    if parent is None:
        return {}
    key = "init_from" if config.extend is None else "extend"
    return {key: digest(parent.record["identity"])}


def load_weights(model: Autoencoder, parent: Run) -> None:
    """Load the best weights of a run.

    Raises:
        UserError: they are not those of such a model.
    """
    try:
        model.load_state_dict(parent.best_weights())
    except RuntimeError as error:
        raise UserError(
            f"init_from={parent.path} has weights of another model: choose the model, the sizes "
            "and the shape of the data of that run"
        ) from error


def copy_best(parent: Run, run: Run) -> None:
    """Begin with the parent's best checkpoint, which later ones have to beat."""
    with replace_atomically(run.best) as beside:
        shutil.copyfile(parent.best, beside)
