"""All runs: find one, claim one, compare them.

`python -m ae_lab.runs` prints them as a table, best first.
"""

import argparse
import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ae_lab import config
from ae_lab.errors import RunFailed, UserError, nearest
from ae_lab.identity import digest
from ae_lab.labels import alike, labels
from ae_lab.pca import pca_mse
from ae_lab.run import Run, write_json

COLUMNS = {
    "parameters": ("parameters", "{:,.0f}"),
    "to decoder": ("passed", "{:,.0f}"),  # values of code, skip connections and indices per image
    "MSE": ("test/mse", "{:.4f}"),
    "PSNR dB": ("test/psnr", "{:.2f}"),
    "SSIM": ("test/ssim", "{:.3f}"),
    "seconds": ("seconds", "{:.0f}"),
}


def find(outputs: str | Path) -> list[Run]:
    """All runs under an outputs folder, in the order of their names."""
    return [Run(path.parent) for path in sorted(Path(outputs).glob("runs/*/run.json"))]


def claim(
    outputs: str | Path, wanted: dict[str, Any], name: str, defaults: Callable[[], dict[str, Any]]
) -> Run:
    """The run of this identity: the one that exists, else a new one, of which nothing is written.

    A run made before a key existed is the same run if the key now has its default value.
    """
    root, mark = Path(outputs) / "runs", digest(wanted)
    for path in sorted(root.glob(f"*-{mark}")):
        return Run(path)
    for run in find(outputs):
        old = run.record["identity"]
        new = wanted.keys() - old.keys()
        if wanted == old | {key: wanted[key] for key in new}:
            usual = defaults() if new else {}
            if all(key in usual and wanted[key] == usual[key] for key in new):
                if new:  # that it is of one kind with runs made since
                    write_json(run.path / "run.json", run.record | {"identity": wanted})
                return Run(run.path)
    return Run(root / f"{name}-{mark}")


def select(runs: list[Run], filters: list[str]) -> list[Run]:
    """The runs whose settings have every `key=value` (or one of several values, `a,b`).

    Raises:
        UserError: a filter is not of that form, or no run has such a key.
    """
    for text in filters:
        key, equals, values = text.partition("=")
        if not equals:
            raise UserError(f"'{text}' is no filter: write key=value, as in model=mlp latent=2,5")
        known = {name for run in runs for name in run.settings} | {"state"}
        if runs and key not in known:
            raise UserError(f"no run has a setting '{key}': {nearest(key, known)}")
        words = {values, *values.split(",")}
        allowed = words | {typed(word) for word in words}
        runs = [
            run
            for run in runs
            if str(run.state if key == "state" else run.settings.get(key)) in allowed
        ]
    return runs


def typed(text: str) -> str:
    """A setting as Python writes it: `true` is True, `[64,32]` is [64, 32]."""
    with contextlib.suppress(Exception):
        return str(OmegaConf.from_dotlist([f"value={text}"]).value)
    return text


def best_first(runs: list[Run], metric: str = "test/mse") -> list[Run]:
    """Sorted by a metric, runs without it last; errors count from below, qualities from above."""
    sign = 1 if metric.endswith(("mse", "loss", "seconds", "parameters")) else -1
    return sorted(runs, key=lambda r: (metric not in r.metrics, sign * r.metrics.get(metric, 0)))


def data_title(runs: list[Run]) -> str:
    """What tables and figures say of the data they are about."""
    return " and ".join(sorted({run.title for run in runs}))


def table(runs: list[Run], baseline: bool = False) -> Table:
    """A row per run; with `baseline`, PCA's MSE at the same latent dimension beside it.

    `*` marks a run made by another version of the code.
    """
    drawn = Table(title=f"Test set of {data_title(runs)}", title_justify="left")
    drawn.add_column("run", overflow="fold")
    states = [run.state for run in runs]
    unfinished = set(states) - {"done"}
    if unfinished:
        drawn.add_column("state")
    for heading in (*COLUMNS, *(["PCA MSE"] if baseline else [])):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for run, state in zip(runs, states, strict=True):
        cells = [run.name + (" *" if run.other_code else "")]
        cells += [state] if unfinished else []
        for name, form in COLUMNS.values():
            cells.append(form.format(run.metrics[name]) if name in run.metrics else "–")
        if baseline:
            value = baseline_of(run)
            cells.append("–" if value is None else f"{value:.4f}")
        drawn.add_row(*cells)
    if any(run.other_code for run in runs):
        drawn.caption = "* made by another version of the code"
    return drawn


def baseline_of(run: Run) -> float | None:
    """PCA's MSE, None where the data that the run was made from is gone."""
    try:
        return pca_mse(run)
    except Exception as error:
        if isinstance(config.root(error), UserError):
            return None
        raise


def averages(runs: list[Run], over: str) -> Table:
    """A row for each group of finished runs that differ in the setting `over` alone: means, and the
    standard deviation of the PSNR among them.

    Raises:
        UserError: no run has such a setting.
    """
    known = {name for run in runs for name in run.settings}
    if over not in known:
        raise UserError(f"no run has a setting '{over}': {nearest(over, known)}")
    groups = alike([run for run in runs if run.done], over)
    drawn = Table(title=f"Test set of {data_title(runs)}, means over {over}", title_justify="left")
    drawn.add_column("runs", overflow="fold")
    for heading in ("of", *COLUMNS):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for group, label in zip(groups, labels([g[0] for g in groups], (over,)), strict=True):
        cells = [label, str(len(group))]
        for name, form in COLUMNS.values():
            values = [run.metrics[name] for run in group if name in run.metrics]
            cells.append(form.format(mean(values)) if values else "–")
            if name == "test/psnr" and len(values) > 1:
                cells[-1] += f" ± {stdev(values):.2f}"
        drawn.add_row(*cells)
    return drawn


def outcomes(sweep: Path, mark: str | None = None) -> list[dict]:
    """What the jobs of a sweep left, in order; of all sweeps in one folder, as of a study run in
    parts, those whose settings and data are those of the newest, or have the given mark."""
    left = [json.loads(path.read_text()) for path in sweep.glob("job-*.json")]
    left.sort(key=lambda outcome: outcome["order"])
    if mark is None:
        mark = next((outcome["sweep"] for outcome in reversed(left) if "run" in outcome), None)
    same = [outcome for outcome in left if outcome["sweep"] == mark]
    data = {outcome["choices"]["data"]: outcome["data"] for outcome in same if "run" in outcome}
    return [o for o in same if "error" in o or o["data"] == data[o["choices"]["data"]]]


def runs_of(sweep: Path, found: list[dict]) -> list[Run]:
    """The finished runs among a sweep's outcomes, each once, with the choices of that sweep."""
    runs: dict[Path, Run] = {}
    for outcome in found:
        if "run" in outcome:
            path = Path(os.path.normpath(sweep / outcome["run"]))
            run = runs.setdefault(path, Run(path))
            run.choices, run.words = outcome["choices"], outcome["overrides"]
    return [run for run in runs.values() if run.done]


def print_wide(drawn: Table) -> None:
    """Print a table in full: a pipe or a log file has no width to fold to."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(drawn)


def show_sweep(folder: Path, found: list[dict]) -> None:
    """The table that ends a sweep, and what failed and why."""
    if runs := runs_of(folder, found):
        print_wide(table(runs, baseline=True))
    if failed := [outcome for outcome in found if "error" in outcome]:
        drawn = Table(title=f"{len(failed)} of {len(found)} jobs failed", title_justify="left")
        drawn.add_column("job", style="red", overflow="fold")
        drawn.add_column("why", overflow="fold")
        for outcome in failed:
            drawn.add_row(escape(" ".join(outcome["overrides"])), escape(outcome["error"]))
        print_wide(drawn)
    if runs:
        print(f"Figures: python -m ae_lab.report {folder}")


def print_csv(runs: list[Run]) -> None:
    """All settings and metrics of the runs to standard output."""
    rows = [{"run": run.name, "state": run.state} | run.settings | run.metrics for run in runs]
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(sys.stdout, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ae_lab.runs",
        description="All runs as a table, best first. Filters: model=mlp latent=2,5 state=done",
    )
    parser.add_argument("filters", nargs="*", metavar="key=value")
    parser.add_argument("--csv", action="store_true", help="all settings and metrics as CSV")
    parser.add_argument("--sort", default="test/mse", metavar="METRIC", help="test/mse by default")
    parser.add_argument("--over", metavar="SETTING", help="means over a setting: --over seed")
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER")
    asked = parser.parse_args()
    if asked.csv and asked.over:
        parser.error("--csv is of single runs: leave out --over")
    try:
        there = find(asked.outputs)
        known = {name for run in there for name in run.metrics}
        if known and asked.sort not in known:
            raise UserError(f"no run has a metric '{asked.sort}': {nearest(asked.sort, known)}")
        runs = best_first(select(there, asked.filters), asked.sort)
        if asked.csv:
            print_csv(runs)
        elif runs:
            print_wide(averages(runs, asked.over) if asked.over else table(runs))
        elif there:
            print(f"None of the {len(there)} runs under {asked.outputs} is one of those.")
        else:
            print(f"No runs under {asked.outputs}. Train one: python -m ae_lab.train")
    except (UserError, RunFailed) as error:
        sys.exit(config.say(error))


if __name__ == "__main__":
    main()
