"""How well a mean is known."""

from collections.abc import Sequence

import numpy as np


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The mean, and half the width of its confidence interval by Student's t; nan for one value."""
    from scipy.stats import t as student  # takes a second to import

    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(
        student.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) / n**0.5
    )
