"""A look at all jobs of a sweep before the first trains."""

import contextlib
import time
from itertools import product

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ae_lab.core import command, configuration, validation
from ae_lab.core.errors import UserError
from ae_lab.tracking.finished import find_finished_run

SECONDS = 10.0  # at most


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
    if find_finished_run(config):
        return ""
    from ae_lab.training.dry_run import check_model

    try:
        validation.check_options(config, "config")
        validation.check_parts(config)
        check_model(config)
    except Exception as error:
        return command.explain_error(error)
    return ""
