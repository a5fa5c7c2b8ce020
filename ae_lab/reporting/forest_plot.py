"""A forest plot of the claims: the interval of each hypothesis beside its threshold."""

import math
from pathlib import Path
from textwrap import fill

import matplotlib
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ae_lab.core.errors import UserError
from ae_lab.core.files import replace_atomically
from ae_lab.reporting.claims import FAILS, HOLDS, INCONCLUSIVE, Verdict
from ae_lab.reporting.hypotheses import Evidence
from ae_lab.reporting.style import STYLE

COLOURS = {HOLDS: "#009E73", FAILS: "#D55E00", INCONCLUSIVE: "#777777"}
SHADE = "#ededed"
LARGEST = 2.5  # times the threshold, or one over it: arrows point to what lies further out
TICKS = [0.4, 0.5, 0.7, 0.85, 1, 1.2, 1.5, 2, 2.5]
WIDTH = 74  # characters of a row's name
Row = tuple[str, str, Evidence]  # the claim's number, its outcome, the evidence


def draw_forest(verdicts: list[Verdict]) -> Figure | None:
    """A row for each hypothesis: its estimate and 95 % interval beside the threshold.

    Ratios are divided by their threshold, on a logarithmic axis, and differences are taken from
    theirs. The claimed side is shaded; the colour is the claim's outcome.
    """
    rows = [
        (str(number), verdict.outcome, evidence)
        for number, verdict in enumerate(verdicts, start=1)
        for evidence in verdict.evidence
        if evidence.values
    ]
    ratios = [row for row in rows if row[2].hypothesis.ratio]
    differences = [row for row in rows if not row[2].hypothesis.ratio]
    groups = [group for group in (ratios, differences) if group]
    if not groups:
        return None
    heights = [sum(map(_height, group)) + 1.5 for group in groups]
    figure = Figure(figsize=(11, 0.155 * sum(heights) + 1.2))
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, group in zip(panels, groups, strict=True):
        is_ratio = group is ratios
        _draw_rows(axes, group, is_ratio)
        axes.set_xlabel("ratio over its threshold" if is_ratio else "difference from its threshold")
    lines = [
        Line2D([], [], color=colour, marker="o", ms=5, label=outcome)
        for outcome, colour in COLOURS.items()
    ]
    claimed = Patch(color=SHADE, label="claimed side")
    figure.legend(handles=[*lines, claimed], loc="outside upper center", ncols=4, fontsize="small")
    return figure


def save_forest(verdicts: list[Verdict], file: Path) -> Path:
    """Write the plot in the format that the file's ending names; returns the file.

    Raises:
        UserError: nothing was run.
    """
    with matplotlib.rc_context(STYLE):
        figure = draw_forest(verdicts)
        if figure is None:
            raise UserError("no experiment that a claim is about was run: there is nothing to draw")
        with replace_atomically(file) as beside:
            figure.savefig(beside, format=file.suffix[1:])
    return file


def check_format(file: Path) -> None:
    """Check that a file's ending names a format of pictures.

    Raises:
        UserError: matplotlib does not know it.
    """
    if file.suffix[1:] not in FigureCanvasBase.get_supported_filetypes():
        raise UserError(f"{file} must end in .png, .svg or .pdf")


def _name(row: Row) -> str:
    return fill(f"{row[0]}  {row[2].hypothesis.subject}", WIDTH)


def _height(row: Row) -> float:
    return 1.35 + _name(row).count("\n")


def _draw_rows(axes, rows: list[Row], is_ratio: bool) -> None:
    places, end = [], 0.0
    for row in rows:
        places.append(end + _height(row) / 2)
        end += _height(row)
    for place, (_, outcome, evidence) in zip(places, rows, strict=True):
        _draw_interval(axes, place, evidence, COLOURS.get(outcome, "#bbbbbb"))
    if is_ratio:
        axes.set_xscale("log")
        axes.set_xlim(1 / LARGEST / 1.05, LARGEST * 1.05)
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.minorticks_off()
    left, right = axes.get_xlim()
    threshold = 1.0 if is_ratio else 0.0
    for place, row in zip(places, rows, strict=True):
        one, half = row[2].hypothesis, _height(row) / 2 - 0.1
        side = (threshold, right) if one.direction == "above" else (left, threshold)
        axes.fill_betweenx([place - half, place + half], *side, color=SHADE, lw=0, zorder=0)
        text = f"{row[2].interval_text}, claimed {one.direction} {one.threshold:g}"
        where = axes.get_yaxis_transform()
        axes.text(1.01, place, text, fontsize="x-small", transform=where, va="center")
    axes.set_xlim(left, right)
    axes.axvline(threshold, color="black", lw=0.8)
    axes.set_yticks(places, [_name(row) for row in rows], fontsize="x-small")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(end, 0)


def _draw_interval(axes, place: float, evidence: Evidence, colour: str) -> None:
    one = evidence.hypothesis
    ends = one.estimate(evidence.values)
    if one.ratio:
        middle, low, high = (end / one.threshold for end in ends)
        limits = (1 / LARGEST, LARGEST)
    else:
        middle, low, high = (end - one.threshold for end in ends)
        limits = (-math.inf, math.inf)
    x = min(max(middle, limits[0]), limits[1])
    marker = "o" if x == middle else ("<" if middle < x else ">")
    if not math.isnan(low) and marker == "o":
        ends = [max(low, limits[0]), min(high, limits[1])]
        axes.plot(ends, [place, place], color=colour, lw=2, solid_capstyle="butt")
    axes.plot(x, place, marker, color=colour, ms=5 if marker == "o" else 8)
