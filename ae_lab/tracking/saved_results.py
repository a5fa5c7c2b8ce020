"""Numbers of finished runs, saved as two CSV files an experiment, read again without the runs.

    experiments/results/<experiment>.csv           a row a run: data, settings, all metrics
    experiments/results/<experiment>.history.csv   a row an epoch

Settings have names that begin with `set.`; the other columns are numbers.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from ae_lab.core.files import write_csv
from ae_lab.tracking.run import Run

SETTING = "set."
TEXTS = ("run", "data", "kind")


class SavedRun:
    """A run whose numbers alone were saved: a `RunLike` without a folder."""

    path = None
    metric_directions: ClassVar[dict[str, bool | None]] = {}

    def __init__(self, row: dict[str, str], history: list[dict[str, float]]):
        self.name, self.title = row["run"], row["data"]
        self._kind = row["kind"]
        self.settings = {
            key.removeprefix(SETTING): _value(text)
            for key, text in row.items()
            if key.startswith(SETTING)
        }
        self.metrics = {
            key: float(text)
            for key, text in row.items()
            if text and key not in TEXTS and not key.startswith(SETTING)
        }
        self.history = history

    def group_key(self, ignoring: str) -> str:
        return self._kind if ignoring == "seed" else str(self.settings | {ignoring: None})


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def save_results(runs: Iterable[Run], folder: Path, experiment: str) -> list[Path]:
    """Write what is known of an experiment's runs; returns the two files."""
    rows, epochs = [], []
    for run in runs:
        about = {"run": run.name, "data": run.title, "kind": run.group_key(ignoring="seed")}
        settings = {f"{SETTING}{key}": _text(value) for key, value in run.settings.items()}
        numbers = {key: f"{value:.9g}" for key, value in run.metrics.items()}
        rows.append(about | settings | numbers)
        for row in run.history:
            epochs.append({"run": run.name} | {key: f"{value:.9g}" for key, value in row.items()})
    files = [folder / f"{experiment}.csv", folder / f"{experiment}.history.csv"]
    for file, content in zip(files, (rows, epochs), strict=True):
        write_csv(file, content)
    return files


def load_results(folder: Path, experiment: str) -> list[SavedRun]:
    """The runs of an experiment as `save_results` left them; none where it left nothing."""
    file = folder / f"{experiment}.csv"
    if not file.is_file():
        return []
    histories: dict[str, list[dict[str, float]]] = {}
    with (folder / f"{experiment}.history.csv").open() as lines:
        for row in csv.DictReader(lines):
            name = row.pop("run")
            numbers = {key: float(text) for key, text in row.items() if text}
            histories.setdefault(name, []).append(numbers)
    with file.open() as lines:
        return [SavedRun(row, histories.get(row["run"], [])) for row in csv.DictReader(lines)]
