"""Hypotheses: a number of each seed's runs, and on which side of a threshold it is claimed to lie.

With one number d for each seed and a threshold c,

    t = (mean(d) - c) / √((var(d) + r²/12) / n),  n - 1 degrees of freedom

where r is the metric's resolution: 1 of counted epochs, whose values can all be the same.
"""

import math
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ae_lab.core.errors import check_choice
from ae_lab.core.intervals import mean_interval
from ae_lab.reporting.statistics import Runs, values_by_seed
from ae_lab.tracking.labels import label_of
from ae_lab.tracking.quantities import quantity
from ae_lab.tracking.registry import select_runs
from ae_lab.tracking.run_like import RunLike

Settings = dict[str, Any]
SIGNS = {"above": 1, "below": -1}


@dataclass(frozen=True)
class Hypothesis:
    """A number for each seed, claimed to lie `above` or `below` a threshold (`direction`).

    With `ratio` the numbers are logarithms and the threshold a ratio. `resolution` is the smallest
    step of the metric. `about` says in words what the number is, where its settings say it badly.
    """

    experiment: str
    metric: str
    direction: str
    threshold: float
    ratio: bool = True
    resolution: float = 0.0
    about: str = ""

    def values(self, runs: Runs) -> list[float]:
        """The number of each seed that has it, a logarithm with `ratio`."""
        raise NotImplementedError

    def describe(self) -> str:
        """What the number is, in words."""
        raise NotImplementedError

    @property
    def subject(self) -> str:
        return self.about or self.describe()

    def p_values(self, values: list[float]) -> tuple[float, float]:
        """One-sided p-values: for the claimed side, and for the other.

        Raises:
            UserError: the direction is neither above nor below.
        """
        sign = check_choice("direction", self.direction, SIGNS)
        if len(values) < 2:
            return 1.0, 1.0
        variance = stdev(values) ** 2 + self.resolution**2 / 12
        if not variance:  # which says nothing about the scatter
            return 1.0, 1.0
        from scipy.stats import t as student  # takes a second to import

        threshold = math.log(self.threshold) if self.ratio else self.threshold
        t = sign * (mean(values) - threshold) / math.sqrt(variance / len(values))
        return float(student.sf(t, len(values) - 1)), float(student.cdf(t, len(values) - 1))

    def estimate(self, values: list[float]) -> tuple[float, float, float]:
        """The mean and the ends of its 95 % interval, as ratios with `ratio`; nan where unknown."""
        middle, half = mean_interval(values)
        ends = (middle, middle - half, middle + half)
        return tuple(math.exp(end) for end in ends) if self.ratio else ends


@dataclass(frozen=True)
class Evidence:
    """What the runs say about a hypothesis."""

    hypothesis: Hypothesis
    values: list[float]

    @property
    def text(self) -> str:
        """The estimate beside the threshold, as in
        `test MSE of model 2 over model 1: 0.93 [0.91, 0.95], claimed below 1 (n = 5, p = 4e-4)`."""
        one = self.hypothesis
        if not self.values:
            return f"{one.subject}: {one.experiment} not run"
        claimed = f"claimed {one.direction} {one.threshold:g}"
        return f"{one.subject}: {self.interval_text}, {claimed} ({self.sample_text})"

    @property
    def interval_text(self) -> str:
        middle, low, high = (f"{end:.3g}" for end in self.hypothesis.estimate(self.values))
        return f"{middle} [{low}, {high}]" if len(self.values) > 1 else middle

    @property
    def sample_text(self) -> str:
        n = f"n = {len(self.values)}"
        p = self.hypothesis.p_values(self.values)[0]
        return f"{n}, p = {p:.2g}" if len(self.values) > 1 else n


@dataclass(frozen=True, kw_only=True)
class Difference(Hypothesis):
    """The metric of the runs `of`, divided by that of the runs `against`, or less it without
    `ratio`; the metric itself where there is no `against`."""

    of: Settings
    against: Settings | None = None

    def values(self, runs: Runs) -> list[float]:
        first = values_by_seed(matching_runs(runs, self.of), self.metric, self.ratio)
        if self.against is None:
            return [mean(values) for values in first.values()]
        second = values_by_seed(matching_runs(runs, self.against), self.metric, self.ratio)
        return [
            mean(first[seed]) - mean(second[seed])
            for seed in first
            if len(second.get(seed, ())) == len(first[seed])
        ]

    def describe(self) -> str:
        other = self.of if self.against is None else self.against
        shared = {key: value for key, value in self.of.items() if other.get(key) == value}
        parts = [describe_settings(self.of, shared)]
        if self.against is not None:
            parts.append(describe_settings(self.against, shared))
        compared = (" over " if self.ratio else " minus ").join(filter(None, parts))
        where = describe_settings(shared, {})
        subject = f"{quantity(self.metric).label} of {compared or where}"
        return f"{subject} ({where})" if compared and where else subject


@dataclass(frozen=True, kw_only=True)
class Effect(Hypothesis):
    """How far the levels of the setting `of` lie apart, over, or less, how far those of `against`
    do.

    For a fully crossed experiment: a level's value is the metric's mean over all other settings,
    and the levels' standard deviation is how far apart they lie. It depends on the chosen levels.
    """

    of: str
    against: str

    def values(self, runs: Runs) -> list[float]:
        first = self.standard_deviations(runs, self.of)
        second = self.standard_deviations(runs, self.against)
        return [first[seed] - second[seed] for seed in first if seed in second]

    def standard_deviations(self, runs: Runs, factor: str) -> dict[str, float]:
        """The standard deviation of a factor's levels, for each seed that has all of them."""
        levels = dict.fromkeys(str(run.settings.get(factor)) for run in runs)
        by_level = [
            values_by_seed(matching_runs(runs, {factor: level}), self.metric, self.ratio)
            for level in levels
        ]
        seeds = set.intersection(*map(set, by_level)) if len(by_level) > 1 else set()
        complete = [s for s in sorted(seeds) if len({len(level[s]) for level in by_level}) == 1]
        return {s: stdev([mean(level[s]) for level in by_level]) for s in complete}

    def describe(self) -> str:
        joined = "over" if self.ratio else "minus"
        label = quantity(self.metric).label
        return f"effect of {self.of} on {label} {joined} that of {self.against}"


def matching_runs(runs: Runs, settings: Settings) -> list[RunLike]:
    """The runs that have each setting, or one of several values of it."""
    listed = {k: value if isinstance(value, list) else [value] for k, value in settings.items()}
    return select_runs(runs, [f"{key}={','.join(map(str, v))}" for key, v in listed.items()])


def describe_settings(settings: Settings, leave_out: Settings) -> str:
    """Settings in words: `mlp, latent 32 and 64`."""
    words = []
    for key, value in settings.items():
        if key not in leave_out:
            values = [label_of(key, one) for one in (value if isinstance(value, list) else [value])]
            first, *rest = values
            rest = [word.removeprefix(f"{key} ") for word in rest]
            joined = [first, *rest]
            last = f" and {joined[-1]}" if rest else ""
            words.append(f"{', '.join(joined[:-1]) if rest else first}{last}")
    return ", ".join(words)
