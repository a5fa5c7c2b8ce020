"""Sweeps: the file in which each job writes how it ended, and the runs of several starts.

Each start of a sweep has a folder of its own with a file `sweep.json`: when it started, what all
its jobs share, its data, and the outcome of each job. An experiment may be run in parts; its
starts lie side by side in one folder, and those whose jobs share the same belong together.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ae_lab.core import configuration
from ae_lab.core.console import RANK
from ae_lab.core.files import write_json
from ae_lab.tracking import run_files
from ae_lab.tracking.registry import print_skipped, skip_damaged
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import UnusableFile

FILE = "sweep.json"
OUTCOME = "AE_LAB_OUTCOME"  # the file in which a process that a launcher started says how it ended


def in_sweep() -> bool:
    """Whether this process runs a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


@dataclass
class Sweep:
    """One start of a sweep, as its file has it."""

    folder: Path
    started: str = ""
    key: str = ""  # what all its jobs share
    data: dict[str, str] = field(default_factory=dict)  # fingerprints by choice of data
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # outcomes by number

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        return [self.jobs[number] for number in sorted(self.jobs, key=lambda n: (len(n), n))]

    @property
    def has_runs(self) -> bool:
        return any("run" in outcome for outcome in self.outcomes)

    def belongs_with(self, other: "Sweep") -> bool:
        """Whether the runs of both may be drawn together: same settings, same data."""
        shared = self.data.keys() & other.data.keys()
        return self.key == other.key and all(self.data[k] == other.data[k] for k in shared)


def find_sweeps(folder: Path) -> list[Sweep]:
    """All starts under an experiment's folder, or the one in a sweep's own, in their order."""
    found = []
    for file in (*folder.glob(FILE), *folder.glob(f"*/{FILE}")):
        try:
            found.append(read_sweep(file))
        except UnusableFile as fault:
            print_skipped(str(fault))
    return sorted(found, key=lambda sweep: sweep.started)


def read_sweep(file: Path) -> Sweep:
    """One start of a sweep.

    Raises:
        UnusableFile: its file is damaged or missing.
    """
    cure = "start the sweep again, which finds its finished runs"
    content = run_files.read_json(file, run_files.SWEEP, cure)
    if content is None:
        raise UnusableFile(file, "is missing", cure)
    return Sweep(file.parent, *(content[key] for key in ("started", "key", "data", "jobs")))


def latest_sweeps(folder: Path) -> list[Sweep]:
    """The newest start under a folder that has runs, and those that belong with it."""
    found = find_sweeps(folder)
    newest = next((sweep for sweep in reversed(found) if sweep.has_runs), None)
    return [sweep for sweep in found if newest and sweep.belongs_with(newest)]


def finished_runs(sweeps: Sequence[Sweep]) -> list[Run]:
    """The finished runs of some starts, each once, with the choices of its sweep; runs that cannot
    be read are left out and named."""
    runs: dict[Path, Run] = {}
    for sweep in sweeps:
        for outcome in sweep.outcomes:
            if "run" in outcome:
                path = Path(os.path.normpath(sweep.folder / outcome["run"]))
                run = runs.setdefault(path, Run(path))
                run.choices, run.overrides = outcome["choices"], outcome["overrides"]
    return [run for run in skip_damaged(runs.values()) if run.done]


def record_outcome(run: Run | None = None, error: str = "") -> None:
    """Write how a job ended to the sweep's file, whichever process runs it; or to where a launcher
    that has started this process for it will look."""
    if RANK > 0 or not HydraConfig.initialized():
        return
    outcome = describe_outcome(HydraConfig.get(), run, error)
    if in_sweep():
        folder = configuration.path_from_start(HydraConfig.get().sweep.dir)
        record_outcomes(folder, {HydraConfig.get().job.num: outcome})
    elif OUTCOME in os.environ:
        file = Path(os.environ[OUTCOME])
        announced = json.loads(file.read_text()) if file.exists() else {}
        write_json(file, announced | outcome)


def announce(run: Run) -> None:
    """Tell a launcher that has started this process which run it is about to train."""
    if not in_sweep():
        record_outcome(run)


def describe_outcome(hydra: DictConfig, run: Run | None = None, error: str = "") -> dict[str, Any]:
    """How a job ended, of the settings that Hydra had for it."""
    end = {"run": str(run.path.absolute())} if run else {"error": error}
    choices = configuration.choices(hydra)
    return {"overrides": list(hydra.overrides.task), "choices": choices} | end


def record_outcomes(folder: Path, outcomes: dict[int, dict[str, Any]]) -> None:
    """Write how jobs of a sweep ended, by their numbers, to its file."""
    file = folder / FILE
    for outcome in outcomes.values():
        if "run" in outcome:
            outcome["run"] = os.path.relpath(outcome["run"], folder)
    with FileLock(folder / f".{FILE}.lock"):
        sweep = json.loads(file.read_text())
        sweep["jobs"] |= {str(number): outcome for number, outcome in outcomes.items()}
        write_json(file, sweep)
