"""Tables of runs: means over seeds, as CSV, LaTeX, Markdown and HTML."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from rich.table import Table as RichTable

from ae_lab.core.files import write_text
from ae_lab.reporting.statistics import Runs, with_metrics
from ae_lab.tracking.labels import data_title, group_by_all_but, label_of, labels
from ae_lab.tracking.quantities import quantity

LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"±": r"$\pm$", "–": "--"})


@dataclass(frozen=True)
class Table:
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

    def rich(self) -> RichTable:
        """The table as the terminal shows it."""
        table = RichTable(title=self.title, title_justify="left")
        for heading in self.heading:
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def save(self, stem: Path) -> list[Path]:
        """Write `<stem>.csv` and `<stem>.tex`; returns the two files."""
        files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".csv", ".tex")]
        for file, text in zip(files, (self.csv(), self.latex()), strict=True):
            write_text(file, text)
        return files


def format_mean_std(values: list[float], form: str) -> str:
    """A mean, and ± the standard deviation where values differ."""
    if not values:
        return "–"
    if len(set(values)) == 1:
        return format(values[0], form)
    return f"{format(mean(values), form)} ± {format(stdev(values), form)}"


def table(runs: Runs, columns: list[str], by: list[str] | None = None) -> Table | None:
    """A row for each group of runs that differ in their seed alone, a column for each number."""
    groups = group_by_all_but("seed", runs)
    if not groups:
        return None
    rows = []
    for group, name in zip(groups, labels([g[0] for g in groups], ("seed",), by), strict=True):
        cells = []
        for column in columns:
            values = [run.metrics[column] for run in with_metrics(group, column)]
            cells.append(format_mean_std(values, quantity(column, runs).format))
        rows.append([name, str(len(group)), *cells])
    heading = ["run", "seeds", *(_column_heading(column, runs) for column in columns)]
    return Table(data_title(runs), heading, rows)


def _column_heading(name: str, runs: Runs) -> str:
    """The short heading, which does not name the stage, only where there is none."""
    known = quantity(name, runs)
    return known.text if "/" in name else known.heading


def cross_table(runs: Runs, y: str, column: str, by: list[str] | None = None) -> Table | None:
    """A number: a row for each group of runs, a column for each value of one setting."""
    runs = with_metrics(runs, y)
    if not runs:
        return None
    values = sorted({run.settings[column] for run in runs}, key=lambda v: (isinstance(v, str), v))
    cells: dict[str, dict] = {}
    for run, name in zip(runs, labels(runs, ("seed", column), by), strict=True):
        cells.setdefault(name, {}).setdefault(run.settings[column], []).append(run.metrics[y])
    form = quantity(y, runs).format
    rows = [
        [name, *(format_mean_std(row.get(value, []), form) for value in values)]
        for name, row in cells.items()
    ]
    heading = [quantity(y, runs).text, *(label_of(column, value) for value in values)]
    return Table(f"{heading[0]}, {data_title(runs)}", heading, rows)
