"""What is known of finished runs, kept as two CSV files a study, and read again without the runs.

    experiments/results/<study>.csv           a row a run: data, settings, metrics and measures
    experiments/results/<study>.history.csv   a row an epoch

Settings have names that begin with `set.`; the other columns are numbers.
"""

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from ae_lab.run import Run, write_csv

SETTING = "set."
TEXTS = ("run", "data", "kind")


class Recorded:
    """A run of which the numbers alone were kept: it reads as a `Run` does, and has no folder."""

    path = None

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

    def kind(self, but_for: str) -> str:
        return self._kind if but_for == "seed" else str(self.settings | {but_for: None})


Runs = list[Run] | list[Recorded]


def _value(text: str):
    try:
        return json.loads(text)
    except ValueError:
        return text


def _text(value) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def keep(runs: Iterable[Run], folder: Path, study: str) -> list[Path]:
    """Write what is known of a study's runs; returns the two files."""
    rows, epochs = [], []
    for run in runs:
        about = {"run": run.name, "data": run.title, "kind": run.kind("seed")}
        settings = {f"{SETTING}{key}": _text(value) for key, value in run.settings.items()}
        numbers = {key: f"{value:.9g}" for key, value in run.metrics.items()}
        rows.append(about | settings | numbers)
        for row in run.history:
            epochs.append({"run": run.name} | {key: f"{value:.9g}" for key, value in row.items()})
    files = [folder / f"{study}.csv", folder / f"{study}.history.csv"]
    for file, content in zip(files, (rows, epochs), strict=True):
        write_csv(file, content)
    return files


def kept(folder: Path, study: str) -> list[Recorded]:
    """The runs of a study as `keep` left them; none where it left nothing."""
    file = folder / f"{study}.csv"
    if not file.is_file():
        return []
    histories: dict[str, list[dict[str, float]]] = {}
    with (folder / f"{study}.history.csv").open() as lines:
        for row in csv.DictReader(lines):
            name = row.pop("run")
            numbers = {key: float(text) for key, text in row.items() if text}
            histories.setdefault(name, []).append(numbers)
    with file.open() as lines:
        return [Recorded(row, histories.get(row["run"], [])) for row in csv.DictReader(lines)]
