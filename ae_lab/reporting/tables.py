"""Tables of runs: means over seeds, as CSV, LaTeX and HTML."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from ae_lab.core.files import write_text
from ae_lab.reporting.plots import LABELS, having
from ae_lab.tracking.labels import alike, label_of, labels
from ae_lab.tracking.registry import data_title
from ae_lab.tracking.saved_results import Runs

LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "–": "--"})


@dataclass(frozen=True)
class Sheet:
    """A table of texts."""

    title: str
    heading: list[str]
    rows: list[list[str]]

    def csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.heading, *self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """A tabular with booktabs' rules."""

        def row(cells: list[str]) -> str:
            return " & ".join(cell.translate(LATEX) for cell in cells) + r" \\"

        body = [row(cells) for cells in self.rows]
        columns = "l" + "r" * (len(self.heading) - 1)
        lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [row(self.heading), r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
        return "\n".join(lines) + "\n"

    def markdown(self) -> str:
        def row(cells: list[str]) -> str:
            return f"| {' | '.join(cells)} |"

        lines = [row(self.heading), row(["---"] * len(self.heading)), *map(row, self.rows)]
        return "\n".join(lines) + "\n"

    def save(self, stem: Path) -> list[Path]:
        files = [stem.with_suffix(".csv"), stem.with_suffix(".tex")]
        for file, text in zip(files, (self.csv(), self.latex()), strict=True):
            write_text(file, text)
        return files


def told(values: list[float], form: str) -> str:
    """A mean, and ± the standard deviation where values differ."""
    if not values:
        return "–"
    if len(set(values)) == 1:
        return format(values[0], form)
    return f"{format(mean(values), form)} ± {format(stdev(values), form)}"


def table(runs: Runs, columns: dict[str, str], by: list[str] | None = None) -> Sheet | None:
    """A row for each kind of run, a column for each of the metrics, {name: format}."""
    groups = alike(runs, "seed")
    if not groups:
        return None
    rows = []
    for group, name in zip(groups, labels([g[0] for g in groups], ("seed",), by), strict=True):
        cells = [told([r.metrics[m] for r in having(group, m)], f) for m, f in columns.items()]
        rows.append([name, str(len(group)), *cells])
    heading = ["run", "seeds", *(LABELS.get(metric, metric) for metric in columns)]
    return Sheet(data_title(runs), heading, rows)


def crossed(
    runs: Runs, y: str, column: str, form: str = ".4f", by: list[str] | None = None
) -> Sheet | None:
    """A metric: a row for each kind of run, a column for each value of one setting."""
    runs = having(runs, y)
    if not runs:
        return None
    values = sorted({run.settings[column] for run in runs}, key=lambda v: (isinstance(v, str), v))
    cells: dict[str, dict] = {}
    for run, name in zip(runs, labels(runs, ("seed", column), by), strict=True):
        cells.setdefault(name, {}).setdefault(run.settings[column], []).append(run.metrics[y])
    rows = [
        [name, *(told(found.get(v, []), form) for v in values)] for name, found in cells.items()
    ]
    title = f"{LABELS.get(y, y)}, {data_title(runs)}"
    return Sheet(title, ["", *(label_of(column, v) for v in values)], rows)
