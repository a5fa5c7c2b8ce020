"""A sweep around its jobs: what is checked before the first, what is told after the last."""

import contextlib
import sys
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab import config as configuration
from ae_lab import runs
from ae_lab.errors import UserError
from ae_lab.run import write_json


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def record(**outcome) -> None:
    """Leave a job's outcome in the sweep's folder, where the summary finds it whoever ran it."""
    hydra = HydraConfig.get()
    outcome |= {"overrides": list(hydra.overrides.task), "choices": configuration.choices()}
    write_json(Path(hydra.sweep.dir) / f"{hydra.job.num}.json", outcome)


class Sweep(Callback):
    """Loads each data set of a sweep before its first job, prints one table after its last.

    Hydra turns exceptions of callbacks into warnings, so these end the process instead.
    """

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        folder = Path(config.hydra.sweep.dir)
        for outcome in folder.glob("[0-9]*.json"):  # of an earlier sweep in the same folder
            outcome.unlink()
        with exits_on_error():
            for source in data_sources(config):
                instantiate(source)

    def on_multirun_end(self, config: DictConfig, **_) -> None:
        with exits_on_error():
            outcomes = runs.outcomes(config.hydra.sweep.dir)
            runs.show_sweep(config.hydra.sweep.dir, outcomes)
        if any("error" in outcome for outcome in outcomes):
            sys.exit(1)


@contextlib.contextmanager
def exits_on_error():
    try:
        yield
    except Exception as error:
        sys.exit(configuration.say(error))


def data_sources(sweep: DictConfig) -> list[DictConfig]:
    """The source of each choice of `data` that a sweep makes.

    Choices that do not exist are left to Hydra, which names them.
    """
    typed = [f"{key}={value}" for key, value in (sweep.hydra.sweeper.params or {}).items()]
    typed += sweep.hydra.overrides.task
    chosen, fixed = [sweep.hydra.runtime.choices.data], []
    for override in OverridesParser.create().parse_overrides(typed):
        key = override.key_or_group
        if key == "data":
            swept = override.is_sweep_override()
            chosen = list(override.sweep_string_iterator()) if swept else [override.value()]
        elif key.startswith(("data.", "paths.")) and not override.is_sweep_override():
            fixed.append(override.input_line)
    sources = []
    for choice in chosen:
        with contextlib.suppress(Exception):
            sources.append(compose("config", overrides=[f"data={choice}", *fixed]).data.source)
    return sources


def refuse_several_devices(devices: object) -> None:
    """Lightning starts one process a device by running the command again: here, all of the sweep.

    Raises:
        UserError: a sweep's job asks for more than one device.
    """
    if in_sweep() and str(devices) not in ("1", "auto") and devices not in ([0],):
        raise UserError(
            f"trainer.devices={devices} in a sweep: a job on several devices is started as a run "
            "of its own, without -m"
        )
