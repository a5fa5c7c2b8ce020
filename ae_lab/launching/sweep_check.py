"""A look at all jobs of a sweep before the first trains."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from ae_lab.core import command, validation
from ae_lab.core.errors import UserError
from ae_lab.launching.local import LocalLauncher, task_configuration
from ae_lab.tracking.finished import find_finished_run

SECONDS = 10.0  # to look at jobs, at most
REMEMBERED = 1000  # configurations at most, of 0.3 MB each


class CheckedSweeper(BasicSweeper):
    """Hydra's own sweeper, which composes all jobs before the first; here it also says which of
    them cannot run. The others run all the same. It looks at as many jobs as `SECONDS` allow.

    Raises:
        UserError: the sweep has no job.
    """

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        if not batch:
            raise UserError(f"the sweep has no job: {self.find_empty()} stands for no value")
        loader = RememberingLoader(self.hydra_context.config_loader)
        if isinstance(self.launcher, BasicLauncher | LocalLauncher):  # others compose elsewhere
            self.launcher.hydra_context = replace(self.hydra_context, config_loader=loader)
        end = time.monotonic() + SECONDS
        for number, words in enumerate(batch):
            composed = loader.load_sweep_config(self.config, list(words))
            loader.remember(words, composed)
            if number and time.monotonic() > end:
                continue
            config = task_configuration(composed)
            if find_finished_run(config):
                continue
            if isinstance(self.launcher, LocalLauncher):
                self.launcher.warm_up()
            if why := find_fault(config):
                print(f"job {number} cannot run ({' '.join(words)}): {why}")

    def find_empty(self) -> str:
        """The word of the sweep that stands for no value."""
        words = [*self._parse_config(), *self.config.hydra.overrides.task]
        swept = [
            o for o in OverridesParser.create().parse_overrides(words) if o.is_sweep_override()
        ]
        return next(o.input_line for o in swept if not list(o.sweep_string_iterator()))


class RememberingLoader:
    """Hydra's loader of configurations, which does not compose again what it remembers."""

    def __init__(self, loader: ConfigLoader):
        self.loader = loader
        self.composed: dict[tuple[str, ...], DictConfig] = {}

    def remember(self, words: Sequence[str], composed: DictConfig) -> None:
        if len(self.composed) < REMEMBERED:
            self.composed[tuple(words)] = composed

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """The configuration of a job, which is the launcher's from now on."""
        composed = self.composed.pop(tuple(sweep_overrides), None)
        return composed or self.loader.load_sweep_config(master_config, sweep_overrides)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def find_fault(config: DictConfig) -> str:
    """Why a job cannot run; nothing where it can."""
    from ae_lab.training.dry_run import check_model

    try:
        validation.check_options(config, "config")
        validation.check_parts(config)
        check_model(config)
    except Exception as error:
        return command.explain_error(error)
    return ""
