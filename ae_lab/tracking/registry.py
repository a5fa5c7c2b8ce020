"""All runs: find one or make room for it, select some, show them in a table."""

import contextlib
import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape
from rich.table import Table

from ae_lab.core.errors import CannotWrite, UserError, suggest
from ae_lab.core.files import write_json
from ae_lab.tracking.identity import digest
from ae_lab.tracking.labels import data_title, group_by_all_but, labels
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.run import FORMAT, Run
from ae_lab.tracking.run_files import UnusableFile
from ae_lab.tracking.run_like import RunLike


def find_runs(outputs: str | Path) -> list[Run]:
    """All runs under an outputs folder, in the order of their names, damaged ones too."""
    runs = map(Run, sorted(Path(outputs).glob("runs/*")))
    return [run for run in runs if run.exists]


def skip_damaged(runs: Iterable[Run]) -> list[Run]:
    """The runs of which all can be read; names the others, each once."""
    sound = []
    for run in runs:
        if faults := run.faults:
            print_skipped(str(faults[0]))
        else:
            sound.append(run)
    return sound


@cache
def print_skipped(why: str) -> None:
    """Say once what is left out, and why."""
    print(f"skipped: {why}", file=sys.stderr)


def run_from_path(path: str | None) -> Run:
    """The run that a command line names.

    Raises:
        UserError: it names none.
    """
    if not path:
        raise UserError("which run? Give run=outputs/runs/...; `python -m ae_lab.runs` lists them")
    return Run(Path(path))


def run_of_identity(outputs: str | Path, identity: dict[str, Any]) -> Run | None:
    """The run whose folder is named by this identity."""
    found = sorted(Path(outputs).glob(f"runs/*-{digest(identity)}"))
    return Run(found[0]) if found else None


def find_or_create_run(
    outputs: str | Path,
    identity: dict[str, Any],
    name: str,
    defaults: Callable[[dict[str, str]], dict[str, Any]],
) -> Run:
    """The run of this identity: the one that exists, else a new one, of which nothing is written.

    A run made before a key existed is the same run if the key now has its default value, which
    `defaults` gives for the run's choices of groups.
    """
    if named := run_of_identity(outputs, identity):
        return named
    for run in find_runs(outputs):
        try:
            record = run.record
        except UnusableFile as fault:
            print_skipped(str(fault))
            continue
        old = record["identity"]
        new = {key: identity[key] for key in identity.keys() - old.keys()}
        if record.get("format") != FORMAT or identity != old | new:
            continue
        try:
            usual = defaults(run.choices) if new else {}
        except (HydraException, OmegaConfBaseException):  # it made a choice that is gone
            continue
        if all(key in usual and usual[key] == new[key] for key in new):
            if new:  # that it groups with runs made since
                with contextlib.suppress(CannotWrite):
                    write_json(run.path / "run.json", record | {"identity": identity})
            return Run(run.path)
    return Run(Path(outputs) / "runs" / f"{name}-{digest(identity)}")


def select_runs(runs: Sequence[RunLike], filters: list[str]) -> list[RunLike]:
    """The runs whose settings have every `key=value` (or one of several values, `a,b`).

    Raises:
        UserError: a filter is not of that form, or no run has such a key.
    """
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals:
            raise UserError(f"invalid filter '{text}': expected key=value, as in latent=2,5")
        known = {name for run in runs for name in run.settings} | {"state"}
        if runs and key not in known:
            raise UserError(f"no run has a setting '{key}': {suggest(key, known)}")
        words = {values, *values.split(",")}
        allowed = words | {_parse(word) for word in words}
        runs = [
            run
            for run in runs
            if str(run.state if key == "state" else run.settings.get(key)) in allowed
        ]
    return list(runs)


def _parse(text: str) -> str:
    """A setting as Python writes it: `true` is True, `[64,32]` is [64, 32]."""
    with contextlib.suppress(Exception):
        return str(OmegaConf.from_dotlist([f"value={text}"]).value)
    return text


def sort_runs(runs: Sequence[RunLike], metric: str = "test/mse") -> list[RunLike]:
    """Best first by a number, runs without it last."""
    sign = -1 if quantity(metric, runs).higher_is_better else 1
    return sorted(runs, key=lambda r: (metric not in r.metrics, sign * r.metrics.get(metric, 0)))


def table_columns(runs: Sequence[RunLike], more: Sequence[str] = ()) -> list[str]:
    """The numbers that a table of runs shows: those of each run's metrics, in their order."""
    metrics = dict.fromkeys(f"test/{name}" for run in runs for name in run.metric_directions)
    usual = metrics or dict.fromkeys(("test/mse", "test/psnr", "test/ssim"))
    return ["parameters", "num_decoder_inputs", *usual, "seconds", *more]


def format_number(run: RunLike, name: str, runs: Sequence[RunLike] = ()) -> str:
    value = run.metrics.get(name)
    return "–" if value is None else format(value, quantity(name, runs or [run]).format)


def tabulate_runs(runs: list[Run], more: Sequence[str] = ()) -> Table:
    """One row per run; `more` names further numbers. `*` marks a run of different code."""
    table = Table(title=f"Test set of {data_title(runs)}", title_justify="left")
    table.add_column("run", overflow="fold")
    states = [run.state for run in runs]
    unfinished = set(states) - {"done"}
    if unfinished:
        table.add_column("state")
    columns = table_columns(runs, more)
    for name in columns:
        heading = quantity(name.removeprefix("test/"), runs).heading
        table.add_column(heading, justify="right", no_wrap=True)
    for run, state in zip(runs, states, strict=True):
        cells = [run.name + (" *" if run.other_code else ""), *([state] if unfinished else [])]
        table.add_row(*cells, *(format_number(run, name, runs) for name in columns))
    if any(run.other_code for run in runs):
        table.caption = "* trained with different code"
    return table


def tabulate_averages(runs: list[Run], setting: str) -> Table:
    """One row per group of finished runs that differ in one setting alone: means, and the
    standard deviation of the PSNR among them.

    Raises:
        UserError: no run has such a setting.
    """
    known = {name for run in runs for name in run.settings}
    if setting not in known:
        raise UserError(f"no run has a setting '{setting}': {suggest(setting, known)}")
    groups = group_by_all_but(setting, [run for run in runs if run.done])
    title = f"Test set of {data_title(runs)}, means over {setting}"
    table = Table(title=title, title_justify="left")
    table.add_column("runs", overflow="fold")
    columns = table_columns(runs)
    for heading in ("n", *(quantity(n.removeprefix("test/"), runs).heading for n in columns)):
        table.add_column(heading, justify="right", no_wrap=True)
    for group, label in zip(groups, labels([g[0] for g in groups], (setting,)), strict=True):
        cells = [label, str(len(group))]
        for name in columns:
            values = [run.metrics[name] for run in group if name in run.metrics]
            cells.append(format(mean(values), quantity(name, runs).format) if values else "–")
            if name == "test/psnr" and len(values) > 1:
                cells[-1] += f" ± {stdev(values):.2f}"
        table.add_row(*cells)
    return table


def tabulate_damaged(faults: dict[str, UnusableFile]) -> Table:
    """One row per run that cannot be read: why, and what to do."""
    table = Table(title="Runs that cannot be read", title_justify="left")
    for heading in ("run", "state"):
        table.add_column(heading, overflow="fold")
    for name, fault in faults.items():
        table.add_row(escape(name), escape(f"{fault.kind}: {fault.why}: {fault.cure}"))
    return table


def print_csv(runs: list[Run], faults: dict[str, UnusableFile]) -> None:
    """All settings and metrics of the runs to standard output, and what is damaged."""
    rows = [{"run": run.name, "state": run.state} | run.settings | run.metrics for run in runs]
    rows += [{"run": name, "state": f"{f.kind}: {f.why}"} for name, f in faults.items()]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
