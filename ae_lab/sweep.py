"""A sweep around its jobs: what is checked before the first, what is told after the last."""

import contextlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf

from ae_lab import config as configuration
from ae_lab import runs
from ae_lab.errors import UserError
from ae_lab.identity import counts, digest, flat
from ae_lab.run import Run, write_json

# Tells a sweep's jobs, which may be processes of their own, what they are of.
SWEEP = "AE_LAB_SWEEP"


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def record(run: Run | None = None, error: str = "") -> None:
    """Leave a job's outcome in the sweep's folder, where the summary finds it whoever ran it."""
    hydra = HydraConfig.get()
    folder, words = Path(hydra.sweep.dir), list(hydra.overrides.task)
    mark, _, started = os.environ.get(SWEEP, "").partition(" ")
    outcome = {"sweep": mark, "order": [started, hydra.job.num]}
    outcome |= {"overrides": words, "choices": configuration.choices()}
    if run is None:
        outcome["error"] = error
    else:
        outcome["run"] = os.path.relpath(run.path, folder)
        outcome["data"] = run.record["data"]["fingerprint"]
    write_json(folder / f"job-{digest([mark, *words])}.json", outcome)


class Sweep(Callback):
    """Loads each data set of a sweep before its first job, prints one table after its last.

    Hydra turns exceptions of callbacks into warnings, so these end the process instead.
    """

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        with exits_on_error():
            words = Words(config)
            data = {name: instantiate(it).fingerprint for name, it in words.data_sources().items()}
            self.mark, self.started = words.mark(data), datetime.now(UTC).isoformat()
            os.environ[SWEEP] = f"{self.mark} {self.started}"
            folder = Path(config.hydra.sweep.dir)
            before = runs.runs_of(folder, runs.outcomes(folder))
            if before and not runs.outcomes(folder, self.mark):
                print(
                    f"Settings or data are not those of the {len(before)} runs of {folder}: its "
                    "figures now leave those out, and the command that made them brings them back."
                )

    def on_multirun_end(self, config: DictConfig, **_) -> None:
        folder = Path(config.hydra.sweep.dir)
        with exits_on_error():
            found = [
                outcome
                for outcome in runs.outcomes(folder, self.mark)
                if "run" in outcome or outcome["order"][0] == self.started
            ]
            runs.show_sweep(folder, found)
        if any("error" in outcome for outcome in found):
            sys.exit(1)


@contextlib.contextmanager
def exits_on_error():
    try:
        yield
    except Exception as error:
        sys.exit(configuration.say(error))


class Words:
    """The words of a sweep, those of its study and then those of the command line: what varies, by
    key, and what all its jobs share."""

    def __init__(self, sweep: DictConfig):
        params = sweep.hydra.sweeper.params or OmegaConf.create({})
        self.params: dict[str, str] = {
            str(key): value for key, value in OmegaConf.to_container(params, resolve=True).items()
        }
        self.data = sweep.hydra.runtime.choices.data
        of_study = [f"{key}={value}" for key, value in self.params.items()]
        words = OverridesParser.create().parse_overrides([*of_study, *sweep.hydra.overrides.task])
        swept = {word.key_or_group for word in words if word.is_sweep_override()} | {*self.params}
        self.varied = {w.key_or_group: w for w in words if w.key_or_group in swept}
        self.fixed = [word.input_line for word in words if word.key_or_group not in swept]

    def mark(self, data: dict[str, str]) -> str:
        """What sweeps share whose runs belong together, as of a study that is run in parts: all
        settings but for what the study sweeps, and the data, by its fingerprint.

        Empty where the words cannot be composed: Hydra will say why.
        """
        more = {key: w.input_line for key, w in self.varied.items() if key not in self.params}
        with contextlib.suppress(Exception):
            shared = flat(compose("config", overrides=self.fixed))
            settings = {key: value for key, value in shared.items() if counts(key)}
            return digest([settings, self.params | more, None if "data" in self.varied else data])
        return ""

    def data_sources(self) -> dict[str, DictConfig]:
        """The source of each choice of `data` that the sweep makes.

        Choices that do not exist are left to Hydra, which names them.
        """
        chosen = {self.data: self.fixed}
        if word := self.varied.get("data"):
            names = word.sweep_string_iterator() if word.is_sweep_override() else [word.value()]
            chosen = {str(name): [*self.fixed, f"data={name}"] for name in names}
        sources = {}
        for name, words in chosen.items():
            with contextlib.suppress(Exception):
                sources[name] = compose("config", overrides=words).data.source
        return sources


def refuse_several_devices(devices: object) -> None:
    """Lightning starts one process a device by running the command again: here, all of the sweep.

    Raises:
        UserError: a sweep's job asks for more than one device.
    """
    if devices == "auto":
        several = torch.cuda.device_count() > 1
    else:
        several = len(devices) > 1 if isinstance(devices, ListConfig) else str(devices) != "1"
    if several and in_sweep():
        raise UserError(
            f"trainer.devices={devices} in a sweep: a job on several devices is started as a run "
            "of its own, without -m"
        )
