"""What is checked before the first job of a sweep, and shown after the last."""

import contextlib
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from ae_lab.core import command, configuration
from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, root_cause
from ae_lab.core.files import check_writable, write_json
from ae_lab.tracking.facts import DataFacts, Facts
from ae_lab.tracking.identity import affects_result, digest
from ae_lab.tracking.registry import tabulate_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.sweeps import (
    FILE,
    Sweep,
    find_sweeps,
    finished_runs,
    latest_sweeps,
    read_sweep,
)


def remove_unstarted(folder: Path) -> None:
    """Remove what a sweep has written that was refused before its first job."""
    if not read_sweep(folder / FILE).outcomes:
        (folder / FILE).unlink()
        (folder / "multirun.yaml").unlink(missing_ok=True)


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
        data = {name: fingerprint(one) for name, one in overrides.data_choices().items()}
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
        command.on_refusal.append(partial(remove_unstarted, folder))

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


def fingerprint(config: DictConfig) -> str:
    """The fingerprint of all images of a configuration's data; reads them if it has to."""
    facts = Facts(config)
    if known := facts.recall_data(limit=None):
        return known.fingerprint
    images = instantiate(config.data.source)
    images.train.check_one_size()
    known = DataFacts(images.fingerprint, images.train.shape, images.train.labels.shape[1])
    facts.remember_data(None, known, images.files)
    return images.fingerprint


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
        parse = OverridesParser.create().parse_overrides
        typed = parse(list(sweep.hydra.overrides.task))
        parsed = parse([f"{key}={value}" for key, value in self.params.items()]) + typed
        swept = {one.key_or_group for one in parsed if one.is_sweep_override()} | {*self.params}
        self.varied = {one.key_or_group: one for one in parsed if one.key_or_group in swept}
        self.fixed = [one.input_line for one in parsed if one.key_or_group not in swept]
        self.fixed += configuration.search_path(sweep.hydra)
        self.sweep = sweep
        self.is_composed = all(o.is_sweep_override() for o in typed if o.key_or_group in swept)

    @cached_property
    def shared(self) -> DictConfig:
        """The configuration without what varies.

        Hydra has composed it already, which takes a tenth of a second, unless a person typed one
        value for a key that the experiment sweeps.
        """
        if self.is_composed:
            return configuration.without_hydra(self.sweep)
        return configuration.compose(self.fixed)

    def sweep_key(self) -> str:
        """What sweeps share whose runs belong together, as of an experiment that is run in parts:
        all settings but for those that the experiment sweeps.

        Empty where they cannot be composed: Hydra will say why.
        """
        more = {key: o.input_line for key, o in self.varied.items() if key not in self.params}
        with contextlib.suppress(Exception):
            shared = configuration.flatten(self.shared)
            settings = {key: value for key, value in shared.items() if affects_result(key)}
            return digest([settings, self.params | more])
        return ""

    def data_choices(self) -> dict[str, DictConfig]:
        """The configuration with each choice of `data` that the sweep makes.

        Choices that do not exist are left to Hydra, which names them.
        """
        one, names = self.varied.get("data"), [self.data]
        if one:
            names = one.sweep_string_iterator() if one.is_sweep_override() else [one.value()]
        configs = {}
        for name in map(str, names):
            with contextlib.suppress(Exception):
                words = [*self.fixed, f"data={name}"]
                configs[name] = configuration.compose(words) if one else self.shared
                _ = configs[name].data.source
        return configs
