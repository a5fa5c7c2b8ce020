"""What several seeds say of one number: a mean with an interval, numbers in groups by seed."""

import math
from collections import Counter

import numpy as np
from scipy.stats import t as student

from ae_lab.core.errors import UserError
from ae_lab.tracking.saved_results import Runs


def interval(values: list[float], level: float = 0.95) -> tuple[float, float]:
    """Mean, and half the width of its confidence interval; nan for a single value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(
        student.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / n**0.5
    )


def by_seed(runs: Runs, value: str, log: bool) -> dict[str, list[float]]:
    """A metric of each seed's runs, or its logarithm: of the kinds of runs that half of the seeds
    have, and of the seeds that have all of those; for sweeps are interrupted, and added to.

    Raises:
        UserError: a logarithm is asked of a number that has none.
    """
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        if value in run.metrics:
            number = run.metrics[value]
            if log and number <= 0:
                raise UserError(
                    f"{value} of {run.name} is {number}, which has no logarithm: say ratio: false "
                    "in a claim, plot another metric"
                )
            numbers = found.setdefault(str(run.settings["seed"]), {})
            numbers[run.kind("seed")] = math.log(number) if log else number
    often = Counter(kind for numbers in found.values() for kind in numbers)
    kinds = [kind for kind, seeds in often.items() if 2 * seeds >= len(found)]
    return {
        seed: [numbers[kind] for kind in kinds]
        for seed, numbers in found.items()
        if all(kind in numbers for kind in kinds)
    }
