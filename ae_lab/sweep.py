"""A sweep around its jobs: what is checked before the first, what is told after the last."""

import contextlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab import config as configuration
from ae_lab import runs
from ae_lab.errors import UserError
from ae_lab.identity import counts, digest, flat
from ae_lab.run import write_json


def in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def record(**outcome) -> None:
    """Leave a job's outcome in the sweep's folder, where the summary finds it whoever ran it."""
    hydra = HydraConfig.get()
    words, folder = list(hydra.overrides.task), Path(hydra.sweep.dir)
    order = [about(folder).get("started", ""), hydra.job.num]
    outcome |= {"overrides": words, "choices": configuration.choices(), "order": order}
    write_json(folder / f"job-{digest(words)}.json", outcome)


def about(folder: Path) -> dict[str, str]:
    """What is known of a folder's sweeps: when the last began, their settings and data."""
    file = folder / "sweep.json"
    return json.loads(file.read_text()) if file.is_file() else {}


class Sweep(Callback):
    """Loads each data set of a sweep before its first job, prints one table after its last.

    Hydra turns exceptions of callbacks into warnings, so these end the process instead.
    """

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        with exits_on_error():
            loaded = {name: instantiate(source) for name, source in data_sources(config).items()}
            if fixed := settings(config):
                data = {f"data={name}": images.fingerprint for name, images in loaded.items()}
                join(Path(config.hydra.sweep.dir), data | {"settings": digest(fixed)})

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


def join(folder: Path, now: dict[str, str]) -> None:
    """Leave in a sweep's folder what earlier sweeps found there that this one belongs with.

    A study is run in parts, a seed now and more later: the parts have the same settings but for
    what is swept, and the same data. Of any other, and of jobs that failed, nothing is kept.
    """
    before = about(folder)
    same = bool(before) and all(before.get(key, value) == value for key, value in now.items())
    for outcome in folder.glob("job-*.json"):
        if not same or "error" in json.loads(outcome.read_text()):
            outcome.unlink()
    started = {"started": datetime.now(UTC).isoformat()}
    write_json(folder / "sweep.json", (before if same else {}) | now | started)


def typed(sweep: DictConfig) -> list[Override]:
    """The words of a sweep: those of its study, then those of the command line."""
    words = [f"{key}={value}" for key, value in (sweep.hydra.sweeper.params or {}).items()]
    return OverridesParser.create().parse_overrides([*words, *sweep.hydra.overrides.task])


def settings(sweep: DictConfig) -> dict | None:
    """What all jobs of a sweep share, and what its study sweeps.

    None where this cannot be composed: Hydra will say why.
    """
    params = OmegaConf.to_container(
        sweep.hydra.sweeper.params or OmegaConf.create({}), resolve=True
    )
    varied = {str(key) for key in params} | {
        word.key_or_group for word in typed(sweep) if word.is_sweep_override()
    }
    fixed = [word.input_line for word in typed(sweep) if word.key_or_group not in varied]
    with contextlib.suppress(Exception):
        shared = flat(compose("config", overrides=fixed))
        return {key: value for key, value in shared.items() if counts(key)} | {"swept": params}
    return None


def data_sources(sweep: DictConfig) -> dict[str, DictConfig]:
    """The source of each choice of `data` that a sweep makes.

    Choices that do not exist are left to Hydra, which names them.
    """
    chosen, fixed = [sweep.hydra.runtime.choices.data], []
    for override in typed(sweep):
        key = override.key_or_group
        if key == "data":
            swept = override.is_sweep_override()
            chosen = list(override.sweep_string_iterator()) if swept else [override.value()]
        elif key.startswith(("data.", "paths.")) and not override.is_sweep_override():
            fixed.append(override.input_line)
    sources = {}
    for choice in chosen:
        with contextlib.suppress(Exception):
            sources[choice] = compose("config", overrides=[f"data={choice}", *fixed]).data.source
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
