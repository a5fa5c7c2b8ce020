"""What the runs of a search over settings show: `plot(runs, y)`, where y is a number of each epoch
or of the whole run, and the runs are in the order in which they were tried.

Of a number of each epoch the best counts. Settings are those in which the runs differ.
"""

import numpy as np
from matplotlib.figure import Figure

from ae_lab.core.trust import check_installed
from ae_lab.reporting.statistics import Runs
from ae_lab.reporting.style import COLOURS, wrap_title
from ae_lab.tracking.labels import data_title, varied_settings
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.run_like import RunLike

LOG_RATIO = 20  # between the largest and smallest value of a setting that is drawn on a log scale


def trials(runs: Runs, y: str) -> Figure | None:
    """A number of each run in the order of the search, and the best so far."""
    values = best_values(runs, y)
    if len(values) < 2:
        return None
    best = np.maximum if is_higher_better(runs, y) else np.minimum
    numbers = np.arange(1, len(values) + 1)
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    axes.plot(numbers, values, "o", ms=4, alpha=0.6, color=COLOURS[0], label="trial")
    axes.step(numbers, best.accumulate(values), where="post", color=COLOURS[1], label="best so far")
    axes.set(xlabel="finished trial", ylabel=f"best {quantity(y, runs).text}")
    axes.legend(fontsize="small")
    figure.suptitle(wrap_title(data_title(runs)), fontsize="medium")
    return figure


def importances(runs: Runs, y: str) -> Figure | None:
    """The share of a number's variance that each setting explains, by functional ANOVA.

    Source: Hutter, Hoos & Leyton-Brown, ICML 2014; by optuna.

    Raises:
        UserError: optuna is not installed.
    """
    check_installed("optuna")
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    columns, values = setting_columns(runs), best_values(runs, y)
    if len(columns) < 2 or len(set(values)) < 4:
        return None
    spaces = {name: distribution(column) for name, column in columns.items()}
    study = optuna.create_study()
    for place, value in enumerate(values):
        settings = {name: column[place] for name, column in columns.items()}
        study.add_trial(
            optuna.trial.create_trial(params=settings, distributions=spaces, value=value)
        )
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    figure = Figure(figsize=(5.2, 0.35 * len(shares) + 1.2))
    axes = figure.subplots()
    axes.barh(list(shares), list(shares.values()), color=COLOURS[0])
    axes.invert_yaxis()
    axes.set(xlabel=f"share of the variance of {quantity(y, runs).text}", xlim=(0, 1))
    figure.suptitle(wrap_title(data_title(runs)), fontsize="medium")
    return figure


def parallel_coordinates(runs: Runs, y: str) -> Figure | None:
    """A line for each run across its settings to a number; the best are the darkest."""
    columns, values = setting_columns(runs), best_values(runs, y)
    if len(columns) < 2 or len(values) < 2:
        return None
    columns[quantity(y, runs).text] = values
    heights = {name: positions(column) for name, column in columns.items()}
    order = np.argsort(values if is_higher_better(runs, y) else -np.array(values))
    figure = Figure(figsize=(1.5 * len(columns) + 1, 3.8))
    axes = figure.subplots()
    for rank, place in enumerate(order):
        line = [height[place] for height, _ in heights.values()]
        strength = 0.1 + 0.9 * (rank / max(1, len(order) - 1)) ** 3
        axes.plot(range(len(line)), line, color=COLOURS[0], alpha=strength)
    for number, (_, ticks) in enumerate(heights.values()):
        axes.axvline(number, color="black", lw=0.8)
        for height, text in ticks:
            axes.annotate(text, (number, height), fontsize="x-small", xytext=(3, 2),
                          textcoords="offset points")  # fmt: skip
    axes.set_xticks(range(len(columns)), list(columns), rotation=20, ha="right")
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) - 0.5)
    figure.suptitle(wrap_title(data_title(runs)), fontsize="medium")
    return figure


def best_values(runs: Runs, y: str) -> list[float]:
    """The number of each run that has it, the best of its epochs where it has one for each."""
    best = max if is_higher_better(runs, y) else min
    return [value for run in runs if (value := value_of(run, y, best)) is not None]


def value_of(run: RunLike, y: str, best) -> float | None:
    rows = [row[y] for row in run.history if y in row]
    return best(rows) if rows else run.metrics.get(y)


def is_higher_better(runs: Runs, y: str) -> bool:
    return bool(quantity(y, runs).higher_is_better)


def setting_columns(runs: Runs) -> dict[str, list]:
    """The values of each setting in which the runs differ; lists as text."""
    names = [name for name in varied_settings(runs) if name not in ("seed", "sweep")]
    return {
        name: [one if is_number(one) else str(one) for one in column]
        for name in names
        if (column := [run.settings.get(name) for run in runs])
    }


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_spread(column: list) -> bool:
    """Whether positive numbers are best told apart by their logarithms."""
    return min(column) > 0 and max(column) > LOG_RATIO * min(column)


def distribution(column: list):
    """What optuna would have drawn the values of a setting from."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if not all(map(is_number, column)):
        return CategoricalDistribution(sorted({str(value) for value in column}))
    return FloatDistribution(min(column), max(column), log=is_spread(column))


def positions(column: list) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where values lie on an axis from 0 to 1, and the marks on it."""
    if not all(map(is_number, column)):
        names = sorted({str(value) for value in column})
        places = np.linspace(0, 1, len(names)) if len(names) > 1 else np.array([0.5])
        marks = dict(zip(names, places, strict=True))
        ticks = [(height, name) for name, height in marks.items()]
        return np.array([marks[str(value)] for value in column]), ticks
    numbers = np.array(column, dtype=float)
    low, high = numbers.min(), numbers.max()
    scaled = np.log(numbers) if is_spread(column) else numbers
    heights = (scaled - scaled.min()) / max(np.ptp(scaled), 1e-12)
    return heights, [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")]
