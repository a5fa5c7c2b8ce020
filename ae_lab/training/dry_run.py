"""A step of the model without data and memory, before anything is prepared, made or trained."""

import contextlib
import os
import time
from collections.abc import Sequence
from itertools import product

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import command, configuration, validation
from ae_lab.core.errors import UserError, check_int, root_cause
from ae_lab.data.images import Batch

COPIES = 4  # of each weight in training: itself, its gradient, two moments
SECONDS = 10.0  # at most, to check the jobs of a sweep


def check_model(config: DictConfig) -> None:
    """Build the model on torch's meta device, where tensors have a shape alone, and take a step.

    A part of one's own that looks at values cannot be run there: it is left to the training.

    Raises:
        UserError: the parts do not fit each other or the images, or the model does not fit into
            the machine's memory.
    """
    if None in (config.data.shape, config.data.classes):  # known when the images are
        return
    check_shape(config.data.shape, config.data.classes)
    with torch.device("meta"):
        try:
            model = instantiate(config.model)
        except Exception as error:
            raise_unless_meta(error, "the model cannot be built")
            return
        check_size(sum(p.numel() for p in model.parameters()))
        images, labels = torch.rand(2, *config.data.shape), torch.zeros(2, config.data.classes)
        batch = Batch(images, images, labels, torch.arange(2), images[:, :1])
        try:
            model.compute_losses(batch)
        except Exception as error:
            shape = tuple(config.data.shape)
            raise_unless_meta(error, f"the parts do not fit each other or images of {shape}")


def check_shape(shape: Sequence[int], classes: int) -> None:
    """Check that images have three sides, none of them empty, and labels no fewer than no class.

    Raises:
        UserError: they have not.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"data.shape must be [channels, height, width], got {list(shape)}")
    check_int("data.classes", classes, minimum=0)


def raise_unless_meta(error: Exception, what: str) -> None:
    """Raise an error as one line, unless it is of the meta device and not of the model."""
    cause = root_cause(error)
    cause = cause.__cause__ or cause if not isinstance(cause, UserError) else cause
    if isinstance(cause, UserError):
        raise cause
    if isinstance(cause, NotImplementedError) or "meta" in str(cause):
        return
    raise UserError(f"{what}: {' '.join(str(cause).split())}") from error


def check_size(num_parameters: int) -> None:
    """Check that the weights and what training keeps of each fit into memory.

    Raises:
        UserError: they do not.
    """
    needed = COPIES * 4 * num_parameters
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise UserError(
            f"the model has {num_parameters:,} parameters, which take {needed / 1e9:,.0f} GB to "
            f"train, and this machine has {memory / 1e9:,.0f}: choose a smaller latent, hidden or "
            "depth"
        )


class SweepCheck(Callback):
    """Checks all jobs of a sweep before the first trains, and says which cannot run.

    The others run all the same. It looks at as many jobs as `SECONDS` allow.
    """

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        # Hydra turns exceptions of callbacks into warnings.
        command.exit_on_error(self.check_jobs, config)

    def check_jobs(self, config: DictConfig) -> None:
        params = config.hydra.sweeper.params or {}
        words = [f"{key}={value}" for key, value in params.items()]
        words += config.hydra.overrides.task
        choices: list[list[str]] = []
        with contextlib.suppress(Exception):  # Hydra will say what is wrong with them
            choices = [values_of(one) for one in OverridesParser.create().parse_overrides(words)]
        for number, job in enumerate(within(SECONDS, product(*choices))):
            if why := find_fault([*job, *configuration.search_path(config.hydra)]):
                print(f"job {number} cannot run ({' '.join(job)}): {why}")
        if empty := [word for word, values in zip(words, choices, strict=False) if not values]:
            raise UserError(f"the sweep has no job: {empty[0]} stands for no value")


def values_of(override) -> list[str]:
    """What one word of a sweep's command line stands for in its jobs."""
    if not override.is_sweep_override() or isinstance(override.value(), Glob):
        return [override.input_line]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def within(seconds: float, items):
    """The items that are reached within a time, and the first one in any case."""
    end = time.monotonic() + seconds
    for place, item in enumerate(items):
        if place and time.monotonic() > end:
            return
        yield item


def find_fault(words: list[str]) -> str:
    """Why a job cannot run; nothing where it can, or where Hydra will say."""
    try:
        config = configuration.compose(words)
    except Exception:
        return ""
    try:
        validation.check_options(config, "config")
        validation.check_parts(config)
        check_model(config)
    except Exception as error:
        return command.explain_error(error)
    return ""
