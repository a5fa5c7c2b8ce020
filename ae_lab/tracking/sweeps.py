"""Sweeps: what is checked before the first job, written by each, and shown after the last.

Each start of a sweep has a folder of its own with a file `sweep.json`: when it started, what all
its jobs share, its data, and the outcome of each job. An experiment may be run in parts; its
starts lie side by side in one folder, and those whose jobs share the same belong together.
"""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ae_lab.core import command, configuration
from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, root_cause
from ae_lab.core.files import check_writable, write_json
from ae_lab.tracking import run_files
from ae_lab.tracking.identity import affects_result, digest
from ae_lab.tracking.registry import print_skipped, skip_damaged, tabulate_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import UnusableFile

FILE = "sweep.json"


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
    """Write how a job ended to the sweep's file, whichever process runs it."""
    hydra = HydraConfig.get()
    file = configuration.path_from_start(hydra.sweep.dir) / FILE
    outcome = {"overrides": list(hydra.overrides.task), "choices": configuration.choices()}
    outcome |= {"run": os.path.relpath(run.path, file.parent)} if run else {"error": error}
    with FileLock(file.with_name(f".{FILE}.lock")):
        sweep = json.loads(file.read_text())
        sweep["jobs"][str(hydra.job.num)] = outcome
        write_json(file, sweep)


class SweepCallback(Callback):
    """Loads each data set of a sweep before its first job, prints one table after its last.

    `columns` names run metrics that the table shows. Hydra turns exceptions of callbacks into
    warnings, so these end the process instead.
    """

    def __init__(self, columns: Sequence[str] = ()):
        self.columns = list(columns)

    def on_multirun_start(self, config: DictConfig, **_) -> None:
        command.exit_on_error(self.start, config)

    def start(self, config: DictConfig) -> None:
        overrides = SweepOverrides(config)
        folder = Path(config.hydra.sweep.dir)
        check_writable(folder, "choose another folder with paths.outputs=...")
        data = {
            name: instantiate(source).fingerprint
            for name, source in overrides.data_sources().items()
        }
        started = datetime.now(UTC).isoformat()
        self.sweep = Sweep(folder, started, overrides.sweep_key(), data)
        before = latest_sweeps(folder.parent) if overrides.params else []
        if before and not before[-1].belongs_with(self.sweep):
            print(
                f"Settings or data are not those of the {len(finished_runs(before))} runs of "
                f"{folder.parent}: its figures now leave those out, and the command that made "
                "them brings them back."
            )
        content = {"started": started, "key": self.sweep.key, "data": data, "jobs": {}}
        write_json(folder / FILE, content)

    def on_multirun_end(self, config: DictConfig, **_) -> None:
        folder = Path(config.hydra.sweep.dir)
        [this] = find_sweeps(folder)
        command.exit_on_error(self.finish, config, this)
        if any("error" in outcome for outcome in this.outcomes):
            sys.exit(1)

    def finish(self, config: DictConfig, this: Sweep) -> None:
        """Show this start's runs, and those of earlier starts that belong with them."""
        overrides = SweepOverrides(config)
        others = find_sweeps(this.folder.parent) if overrides.params else [this]
        together = [sweep for sweep in others if sweep.belongs_with(this)]
        runs = finished_runs(together)
        for run in runs:
            for name in self.columns:
                add_run_metric(run, name, config.run_metrics)
        shown = this.folder.parent if len(together) > 1 else this.folder
        show_sweep(shown, runs, this.outcomes, self.columns)


def add_run_metric(run: Run, name: str, run_metrics: DictConfig) -> None:
    """Compute one of the configuration's run metrics; leave it out where the run's data is gone."""
    settings = OmegaConf.to_container(run_metrics[name], resolve=True)
    try:
        run.add_metric(name, settings, lambda: instantiate(run_metrics[name], run=run))
    except Exception as error:
        if not isinstance(root_cause(error), UserError):
            raise


def show_sweep(folder: Path, runs: list[Run], outcomes: list[dict], columns: list[str]) -> None:
    """The table that ends a sweep, and what failed and why."""
    if runs:
        print_table(tabulate_runs(runs, columns))
    if failed := [outcome for outcome in outcomes if "error" in outcome]:
        table = Table(title=f"{len(failed)} of {len(outcomes)} jobs failed", title_justify="left")
        table.add_column("job", style="red", overflow="fold")
        table.add_column("why", overflow="fold")
        for outcome in failed:
            table.add_row(" ".join(outcome["overrides"]), outcome["error"])
        print_table(table)
    if runs:
        print(f"Figures: python -m ae_lab.report {folder}")


class SweepOverrides:
    """What a sweep's experiment and then its command line set: what varies, by key, and what all
    its jobs share."""

    def __init__(self, sweep: DictConfig):
        params = sweep.hydra.sweeper.params or OmegaConf.create({})
        self.params: dict[str, str] = {
            str(key): value for key, value in OmegaConf.to_container(params, resolve=True).items()
        }
        self.data = sweep.hydra.runtime.choices.data
        of_experiment = [f"{key}={value}" for key, value in self.params.items()]
        words = [*of_experiment, *sweep.hydra.overrides.task]
        parsed = OverridesParser.create().parse_overrides(words)
        swept = {one.key_or_group for one in parsed if one.is_sweep_override()} | {*self.params}
        self.varied = {one.key_or_group: one for one in parsed if one.key_or_group in swept}
        self.fixed = [one.input_line for one in parsed if one.key_or_group not in swept]
        self.fixed += configuration.search_path(sweep.hydra)

    def sweep_key(self) -> str:
        """What sweeps share whose runs belong together, as of an experiment that is run in parts:
        all settings but for those that the experiment sweeps.

        Empty where they cannot be composed: Hydra will say why.
        """
        more = {key: o.input_line for key, o in self.varied.items() if key not in self.params}
        with contextlib.suppress(Exception):
            config = configuration.compose(self.fixed)
            shared = configuration.flatten(config)
            settings = {key: value for key, value in shared.items() if affects_result(key)}
            return digest([settings, self.params | more])
        return ""

    def data_sources(self) -> dict[str, DictConfig]:
        """The source of each choice of `data` that the sweep makes.

        Choices that do not exist are left to Hydra, which names them.
        """
        chosen = {self.data: self.fixed}
        if one := self.varied.get("data"):
            names = one.sweep_string_iterator() if one.is_sweep_override() else [one.value()]
            chosen = {str(name): [*self.fixed, f"data={name}"] for name in names}
        sources = {}
        for name, words in chosen.items():
            with contextlib.suppress(Exception):
                sources[name] = configuration.compose(words).data.source
        return sources
