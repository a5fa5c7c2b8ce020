"""Kinds of plots: `plot(runs, ...)` returns a matplotlib Figure, or None where there is nothing to
show. Runs that differ in their seed alone are one thing: its mean, with a 95 % interval of the mean
by Student's t from two seeds on.

`by` names the settings that tell lines or rows apart; without it, those that vary.
"""

from itertools import cycle
from pathlib import Path
from textwrap import fill

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ae_lab.reporting.statistics import by_seed, interval
from ae_lab.tracking.labels import alike, label_of, labels
from ae_lab.tracking.registry import data_title
from ae_lab.tracking.saved_results import Runs

LABELS = {
    "latent": "latent dimensions",
    "epoch": "epoch",
    "train/loss": "training loss per image",
    "val/loss": "validation loss per image",
    "test/mse": "test MSE per pixel",
    "val/mse": "validation MSE per pixel",
    "test/psnr": "test PSNR (dB)",
    "test/ssim": "test SSIM",
    "gain": "PSNR gained over the noisy image (dB)",
    "sharpness": "gradient energy, reconstruction / original",
    "confidence": "label confidence of random images",
    "seen_psnr": "PSNR of the noisy images (dB)",
    "classical_psnr": "best classical method",
    "pca_mse": "PCA",
    "mse_4": "MSE on [-1, 1]",
    "over_pca": "MSE over PCA's",
    "passed": "values to the decoder",
    "gap": "validation loss over training's",
    "settled": "epochs to settle",
    "epochs_to": "epochs to the threshold",
    "gradient_flow": "gradient, first layer over last",
    "accuracy": "label accuracy of random images",
}
# Okabe & Ito's palette, told apart with any colour vision, less its yellow; black is for baselines.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.titlesize": "medium",
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.handlelength": 3,  # that dashes show
    "svg.fonttype": "none",
}


def wrapped(title: str) -> str:
    """A title in lines as long as a figure is wide."""
    return fill(title, 56)


def solid(number: int) -> str:
    """How the line of this number is drawn: as one, and with dots where colours come again."""
    return "-" if number < len(COLOURS) else "-."


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG; returns the two files."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in files:
        figure.savefig(file)
    return files


def as_labels(axes, points: np.ndarray, names: np.ndarray | None) -> None:
    """Points (N, 2), each drawn as its label, a number from 0; as dots where there are none."""
    if names is None:
        axes.scatter(*points.T, s=14, lw=0, alpha=0.8)
        return
    for y in np.unique(names):
        mine, colour = points[names == y], COLOURS[y % len(COLOURS)]
        axes.scatter(*mine.T, s=14, lw=0, alpha=0.8, color=colour, marker=f"${y}$")


def having(runs: Runs, *metrics: str) -> Runs:
    return [run for run in runs if all(metric in run.metrics for metric in metrics)]


def scale_y(axes, metric: str) -> None:
    """A logarithmic axis with plain numbers for errors; the rest is linear."""
    if metric.endswith("mse"):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        low, high = axes.get_ylim()
        digits = 3 if high > 1.1 * low else 5  # that ticks side by side differ
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.{digits}g}")
        axes.yaxis.set_minor_locator(NullLocator())


def line(axes, values: dict[float, list[float]], label: str | None, **style) -> None:
    """Means over x, with a band where there are several values at one."""
    places = sorted(values)
    if not places:
        return
    means, half = zip(*(interval(values[x]) for x in places), strict=True)
    [drawn] = axes.plot(places, means, label=label, **style)
    low, high = np.subtract(means, half), np.add(means, half)
    axes.fill_between(places, low, high, color=drawn.get_color(), alpha=0.2, lw=0)


def finish(axes, x: str, y: str, runs: Runs, lines: int) -> None:
    scale_y(axes, y)
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y), title=wrapped(data_title(runs)))
    if 1 < lines < 7:
        axes.legend(fontsize="small")
    elif lines > 1:
        axes.figure.legend(loc="outside right upper", fontsize="x-small")
        axes.figure.set_figwidth(6.8)


def curve(
    runs: Runs, x: str, y: str, by: list[str] | None = None, baseline: str | None = None
) -> Figure | None:
    """A metric against a setting, or against another metric.

    `baseline` names a measure drawn beside it, dashed: once if it is the same for all lines.
    """
    runs = having(runs, y)
    if len({at(run, x) for run in runs}) < 2:
        return None
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    found = by_label(runs, labels(runs, (x, "preset", "seed"), by))
    for number, (name, mine) in enumerate(found.items()):
        style = {"color": COLOURS[number % len(COLOURS)], "ls": solid(number)}
        line(axes, points(mine, x, y), name, marker="o", markersize=4, **style)
    if baseline:
        dashed(axes, list(found.values()), x, baseline)
    if all(x in run.settings for run in runs):
        positions = sorted({at(run, x) for run in runs})
        axes.set_xscale("log")
        axes.set_xticks(positions, [f"{p:g}" for p in positions])
        axes.minorticks_off()
    finish(axes, x, y, runs, len(found) + bool(baseline))
    return figure


def dashed(axes, lines: list[Runs], x: str, baseline: str) -> None:
    """A measure beside each line, in its colour, or in black where all lines share it."""
    beside = []
    for mine in lines:
        values = points(having(mine, baseline), x, baseline)
        beside.append({place: [float(np.mean(found))] for place, found in values.items()})
    longest = max(beside, key=len)
    shared = all(other.items() <= longest.items() for other in beside if other)
    for number, values in enumerate([longest] if shared else beside):
        name = LABELS.get(baseline, baseline) if number == 0 else None
        colour = "black" if shared else COLOURS[number % len(COLOURS)]
        line(axes, values, name, color=colour, ls="--", marker="s", markersize=3)


def by_label(runs: Runs, names: list[str]) -> dict[str, Runs]:
    """The runs of each name, in the order they came."""
    found: dict[str, Runs] = {}
    for run, name in zip(runs, names, strict=True):
        found.setdefault(name, []).append(run)
    return found


def at(run, x: str) -> float:
    """A setting of a run, or a metric of it."""
    return run.settings[x] if x in run.settings else run.metrics.get(x)


def points(runs: Runs, x: str, y: str) -> dict[float, list[float]]:
    """The values of y at each x."""
    found: dict[float, list[float]] = {}
    for run in runs:
        found.setdefault(at(run, x), []).append(run.metrics[y])
    return found


def history(runs: Runs, y: str, by: list[str] | None = None) -> Figure | None:
    """A metric over the epochs."""
    runs = [run for run in runs if any(y in row for row in run.history)]
    if not runs:
        return None
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    found = by_label(runs, labels(runs, ("seed",), by))
    for number, (name, mine) in enumerate(found.items()):
        values: dict[float, list[float]] = {}
        for row in (row for run in mine for row in run.history if y in row):
            values.setdefault(row["epoch"] + 1, []).append(row[y])
        line(axes, values, name, ls=solid(number))
    finish(axes, "epoch", y, runs, len(found))
    return figure


def dots(
    runs: Runs, y: str, by: list[str] | None = None, colour: str | None = None
) -> Figure | None:
    """A metric of runs that differ in more than a number: a dot a run, a bar where their mean is.

    A row for each kind of run, in a colour for each value of the setting `colour`. Where kinds
    differ in how many values reach the decoder, the row says how many.
    """
    runs = having(runs, y)
    if not runs:
        return None
    leave = ("seed", colour) if colour else ("seed",)
    rows = by_label(runs, labels(runs, leave, by))
    shades = sorted({str(run.settings.get(colour)) for run in runs})
    figure = Figure(figsize=(6.0, 0.32 * len(rows) + 1.0 + 0.2 * (len(shades) > 1)))
    axes = figure.subplots()
    for shade, drawn in zip(shades, cycle(COLOURS), strict=False):
        name = label_of(colour, shade) if colour else None
        for place, group in enumerate(rows.values()):
            values = [r.metrics[y] for r in group if str(r.settings.get(colour)) == shade]
            if values:
                axes.plot(values, [place] * len(values), "o", ms=4, alpha=0.5, color=drawn)
                axes.plot(np.mean(values), place, "|", ms=13, mew=2, color=drawn, label=name)
                name = None
    named, what = with_passed(rows)
    axes.set_yticks(range(len(rows)), named)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.3 / len(rows))
    axes.set(xlabel=LABELS.get(y, y), ylabel=what)
    figure.suptitle(wrapped(data_title(runs)), fontsize="medium")
    if len(shades) > 1:
        figure.legend(loc="outside lower center", ncols=len(shades), fontsize="small")
    return figure


def with_passed(rows: dict[str, Runs]) -> tuple[list[str], str | None]:
    """The rows' names, with how many values reach the decoder where rows differ in that."""
    passed = [{run.metrics.get("passed", 0) for run in group} for group in rows.values()]
    if any(len(counts) > 1 for counts in passed) or len(set().union(*passed)) == 1:
        return list(rows), None
    shown = [f"{name}  ({min(n):,.0f})" for name, n in zip(rows, passed, strict=True)]
    return shown, "(values to the decoder)"


def effects(runs: Runs, y: str, factors: list[str]) -> Figure | None:
    """Main effects on the diagonal, interactions off it: geometric means of a metric over all
    other settings, for each level of a factor, a line for each level of another."""
    runs = having(runs, y)
    if not runs:
        return None
    side = len(factors)
    figure = Figure(figsize=(2.3 * side + 1, 2.0 * side))
    panels = figure.subplots(side, side, sharey=True, squeeze=False)
    levels = {f: sorted({run.settings[f] for run in runs}, key=_order) for f in factors}
    for row, second in enumerate(factors):
        for column, first in enumerate(factors):
            axes = panels[row, column]
            for value in levels[second] if row != column else [None]:
                mine = [r for r in runs if value is None or r.settings[second] == value]
                at_each = ([r for r in mine if r.settings[first] == v] for v in levels[first])
                means, ends = zip(*(geometric(group, y) for group in at_each), strict=True)
                style = {"color": "black"} if value is None else {"label": label_of(second, value)}
                bars = np.abs(np.array(ends).T - np.array(means))
                axes.errorbar(range(len(means)), means, bars, marker="o", ms=3, capsize=2, **style)
            axes.set_xticks(range(len(levels[first])), [str(v) for v in levels[first]])
            scale_y(axes, y)
            if row == side - 1:
                axes.set_xlabel(LABELS.get(first, first))
        lines = panels[row, 0 if row else -1].get_legend_handles_labels()
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": "x-small"}
        panels[row, -1].legend(*lines, **beside)
    figure.supylabel(f"{LABELS.get(y, y)}, geometric mean", fontsize="medium")
    figure.suptitle(wrapped(data_title(runs)), fontsize="medium")
    return figure


def geometric(runs: Runs, y: str) -> tuple[float, tuple[float, float]]:
    """The geometric mean of a metric and its 95 % interval, over the seeds' own means."""
    if not runs:
        return np.nan, (np.nan, np.nan)
    middle, half = interval([float(np.mean(logs)) for logs in by_seed(runs, y, log=True).values()])
    return np.exp(middle), (np.exp(middle - half), np.exp(middle + half))


def _order(value) -> tuple:
    return (0, value) if isinstance(value, int | float) else (1, str(value))


def finding(runs: Runs, y: str, by: list[str] | None = None) -> str:
    """What came out, in words: a metric's extremes, each the mean of runs alike but for seed."""
    groups = alike(having(runs, y), "seed")
    if not groups:
        return ""
    names = labels([group[0] for group in groups], ("seed",), by)
    means = [float(np.mean([run.metrics[y] for run in group])) for group in groups]
    ends = sorted(zip(means, names, strict=True))
    told = [f"{value:.4g} ({name})" for value, name in (ends[0], ends[-1])]
    return f"{LABELS.get(y, y)} from {told[0]} to {told[1]}" if len(groups) > 1 else told[0]
