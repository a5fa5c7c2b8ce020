"""Kinds of plots: `plot(runs, ...)` returns a matplotlib Figure, or None where there is nothing to
show.

Runs that differ in their seed alone are one point: their mean, with a 95 % interval of the mean by
Student's t from two seeds on. `by` names the settings that distinguish lines or rows; without it,
those that vary. What numbers are called is said in `ae_lab.tracking.quantities`.
"""

from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from ae_lab.core.intervals import mean_interval
from ae_lab.reporting.statistics import Runs, values_by_seed, with_metrics
from ae_lab.reporting.style import COLOURS, line_style, wrap_title
from ae_lab.tracking.labels import data_title, group_by_all_but, label_of, labels
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.run_like import RunLike


def curve(
    runs: Runs, x: str, y: str, by: list[str] | None = None, baseline: str | None = None
) -> Figure | None:
    """A number against a setting, or against another number.

    `baseline` names a number that is drawn too, dashed: once if it is the same for all lines.
    """
    runs = with_metrics(runs, y)
    if len({_value_at(run, x) for run in runs}) < 2:
        return None
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    lines = _group_by_label(runs, labels(runs, (x, "preset", "seed"), by))
    for number, (name, group) in enumerate(lines.items()):
        style = {"marker": "o", "markersize": 4, **line_style(number)}
        _draw_line(axes, _points(group, x, y), name, **style)
    if baseline:
        _draw_baseline(axes, list(lines.values()), x, baseline)
    if all(x in run.settings for run in runs):
        positions = sorted({_value_at(run, x) for run in runs})
        axes.set_xscale("log")
        axes.set_xticks(positions, [f"{p:g}" for p in positions])
        axes.minorticks_off()
    _finish(axes, x, y, runs, len(lines) + bool(baseline))
    return figure


def history(runs: Runs, y: str, by: list[str] | None = None) -> Figure | None:
    """A number over the epochs."""
    runs = [run for run in runs if any(y in row for row in run.history)]
    if not runs:
        return None
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    lines = _group_by_label(runs, labels(runs, ("seed",), by))
    for number, (name, group) in enumerate(lines.items()):
        values: dict[float, list[float]] = {}
        for row in (row for run in group for row in run.history if y in row):
            values.setdefault(row["epoch"] + 1, []).append(row[y])
        _draw_line(axes, values, name, **line_style(number))
    _finish(axes, "epoch", y, runs, len(lines))
    return figure


def dots(
    runs: Runs, y: str, by: list[str] | None = None, colour: str | None = None
) -> Figure | None:
    """A number of runs that differ in more than a number: a dot a run, a bar where their mean is.

    A row for each group of runs, in a colour for each value of the setting `colour`. Where groups
    differ in how many values reach the decoder, the row says how many.
    """
    runs = with_metrics(runs, y)
    if not runs:
        return None
    leave_out = ("seed", colour) if colour else ("seed",)
    rows = _group_by_label(runs, labels(runs, leave_out, by))
    values = sorted({str(run.settings.get(colour)) for run in runs})
    figure = Figure(figsize=(6.0, 0.32 * len(rows) + 1.0 + 0.2 * (len(values) > 1)))
    axes = figure.subplots()
    for value, shade in zip(values, cycle(COLOURS), strict=False):
        name = label_of(colour, value) if colour else None
        for place, group in enumerate(rows.values()):
            numbers = [r.metrics[y] for r in group if str(r.settings.get(colour)) == value]
            if numbers:
                axes.plot(numbers, [place] * len(numbers), "o", ms=4, alpha=0.5, color=shade)
                axes.plot(np.mean(numbers), place, "|", ms=13, mew=2, color=shade, label=name)
                name = None
    names, heading = _with_decoder_inputs(rows)
    axes.set_yticks(range(len(rows)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.margins(y=0.3 / len(rows))
    axes.set(xlabel=quantity(y, runs).text, ylabel=heading)
    figure.suptitle(wrap_title(data_title(runs)), fontsize="medium")
    if len(values) > 1:
        figure.legend(loc="outside lower center", ncols=len(values), fontsize="small")
    return figure


def effects(runs: Runs, y: str, factors: list[str]) -> Figure | None:
    """Main effects on the diagonal, interactions off it.

    Geometric means of a number over all other settings, for each level of a factor, a line for each
    level of another.
    """
    runs = with_metrics(runs, y)
    if not runs:
        return None
    side = len(factors)
    figure = Figure(figsize=(2.3 * side + 1, 2.0 * side))
    panels = figure.subplots(side, side, sharey=True, squeeze=False)
    levels = {f: sorted({run.settings[f] for run in runs}, key=_sort_key) for f in factors}
    for row, second in enumerate(factors):
        for column, first in enumerate(factors):
            axes = panels[row, column]
            for level in levels[second] if row != column else [None]:
                group = [r for r in runs if level is None or r.settings[second] == level]
                at_each = ([r for r in group if r.settings[first] == v] for v in levels[first])
                means, ends = zip(*(_geometric_mean(g, y) for g in at_each), strict=True)
                style = {"color": "black"} if level is None else {"label": label_of(second, level)}
                bars = np.abs(np.array(ends).T - np.array(means))
                axes.errorbar(range(len(means)), means, bars, marker="o", ms=3, capsize=2, **style)
            axes.set_xticks(range(len(levels[first])), [str(v) for v in levels[first]])
            _scale_y(axes, y)
            if row == side - 1:
                axes.set_xlabel(quantity(first).text)
        lines = panels[row, 0 if row else -1].get_legend_handles_labels()
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": "x-small"}
        panels[row, -1].legend(*lines, **beside)
    figure.supylabel(f"{quantity(y, runs).text}, geometric mean", fontsize="medium")
    figure.suptitle(wrap_title(data_title(runs)), fontsize="medium")
    return figure


def describe_extremes(runs: Runs, y: str, by: list[str] | None = None) -> str:
    """The lowest and the highest value of a number in words, each a mean over seeds."""
    groups = group_by_all_but("seed", with_metrics(runs, y))
    if not groups:
        return ""
    names = labels([group[0] for group in groups], ("seed",), by)
    means = [float(np.mean([run.metrics[y] for run in group])) for group in groups]
    ranked = sorted(zip(means, names, strict=True))
    low, high = (f"{value:.4g} ({name})" for value, name in (ranked[0], ranked[-1]))
    text = quantity(y, runs).text
    text = text[0].upper() + text[1:] if text[1:2].islower() else text
    return f"{text}: from {low} to {high}." if len(groups) > 1 else f"{text}: {low}."


def _scale_y(axes, metric: str) -> None:
    """A logarithmic axis with plain numbers for errors; the rest is linear."""
    if metric.endswith("mse"):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        low, high = axes.get_ylim()
        digits = 3 if high > 1.1 * low else 5  # so that neighbouring ticks differ
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.{digits}g}")
        axes.yaxis.set_minor_locator(NullLocator())


def _draw_line(axes, values: dict[float, list[float]], label: str | None, **style) -> None:
    """Means over x, with a band where there are several values at one."""
    places = sorted(values)
    if not places:
        return
    means, half = zip(*(mean_interval(values[x]) for x in places), strict=True)
    [line] = axes.plot(places, means, label=label, **style)
    low, high = np.subtract(means, half), np.add(means, half)
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2, lw=0)


def _finish(axes, x: str, y: str, runs: Runs, num_lines: int) -> None:
    _scale_y(axes, y)
    if x == "epoch":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel=quantity(x, runs).text, ylabel=quantity(y, runs).text)
    axes.set_title(wrap_title(data_title(runs)))
    if 1 < num_lines < 7:
        axes.legend(fontsize="small")
    elif num_lines > 1:
        axes.figure.legend(loc="outside right upper", fontsize="x-small")
        axes.figure.set_figwidth(6.8)


def _draw_baseline(axes, lines: list[Runs], x: str, baseline: str) -> None:
    """A number beside each line, in its colour, or in black where all lines share it."""
    beside = []
    for group in lines:
        values = _points(with_metrics(group, baseline), x, baseline)
        beside.append({place: [float(np.mean(numbers))] for place, numbers in values.items()})
    longest = max(beside, key=len)
    is_shared = all(
        place in longest and np.allclose(value, longest[place], rtol=1e-3)
        for other in beside
        for place, value in other.items()
    )
    for number, values in enumerate([longest] if is_shared else beside):
        name = quantity(baseline).text if number == 0 else None
        colour = "black" if is_shared else COLOURS[number % len(COLOURS)]
        _draw_line(axes, values, name, color=colour, ls="--", marker="s", markersize=3)


def _group_by_label(runs: Runs, names: list[str]) -> dict[str, list[RunLike]]:
    groups: dict[str, list[RunLike]] = {}
    for run, name in zip(runs, names, strict=True):
        groups.setdefault(name, []).append(run)
    return groups


def _value_at(run: RunLike, x: str) -> float | None:
    """A setting of a run, or a number of it."""
    return run.settings[x] if x in run.settings else run.metrics.get(x)


def _points(runs: Runs, x: str, y: str) -> dict[float, list[float]]:
    """The values of y at each x; where x is a number of runs, at its mean over seeds."""
    points: dict[float, list[float]] = {}
    for group in group_by_all_but("seed", runs):
        place = float(np.mean([_value_at(run, x) for run in group]))
        points.setdefault(place, []).extend(run.metrics[y] for run in group)
    return points


def _with_decoder_inputs(rows: dict[str, list[RunLike]]) -> tuple[list[str], str | None]:
    """The rows' names, with how many values reach the decoder where rows differ in that."""
    counts = [{run.metrics.get("num_decoder_inputs", 0) for run in g} for g in rows.values()]
    if any(len(one) > 1 for one in counts) or len(set().union(*counts)) == 1:
        return list(rows), None
    names = [f"{name}  ({min(one):,.0f})" for name, one in zip(rows, counts, strict=True)]
    return names, "(values to the decoder)"


def _geometric_mean(runs: Runs, y: str) -> tuple[float, tuple[float, float]]:
    """The geometric mean of a number and its 95 % interval, over the seeds' own means."""
    if not runs:
        return np.nan, (np.nan, np.nan)
    seeds = values_by_seed(runs, y, log=True).values()
    middle, half = mean_interval([float(np.mean(logs)) for logs in seeds])
    return np.exp(middle), (np.exp(middle - half), np.exp(middle + half))


def _sort_key(value) -> tuple:
    return (0, value) if isinstance(value, int | float) else (1, str(value))
