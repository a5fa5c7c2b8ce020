"""What several seeds say about one number: values grouped by seed."""

import math
from collections import Counter
from collections.abc import Sequence

from ae_lab.core.errors import UserError
from ae_lab.tracking.run_like import RunLike

Runs = Sequence[RunLike]


def with_metrics(runs: Runs, *names: str) -> list[RunLike]:
    """The runs that have each of some numbers."""
    return [run for run in runs if all(name in run.metrics for name in names)]


def values_by_seed(runs: Runs, metric: str, log: bool) -> dict[str, list[float]]:
    """A metric of each seed's runs, or its logarithm.

    Sweeps are interrupted, and added to. Counted are groups of runs that at least half of the seeds
    have, and of the seeds those that have all these groups.

    Raises:
        UserError: a logarithm is asked for of a number that has none.
    """
    by_seed: dict[str, dict[str, float]] = {}
    for run in with_metrics(runs, metric):
        value = run.metrics[metric]
        if log and value <= 0:
            raise UserError(
                f"{metric} of {run.name} is {value}, which has no logarithm: set ratio: false in "
                "the claim, or plot another metric"
            )
        values = by_seed.setdefault(str(run.settings["seed"]), {})
        values[run.group_key(ignoring="seed")] = math.log(value) if log else value
    num_seeds = Counter(group for values in by_seed.values() for group in values)
    groups = [group for group, n in num_seeds.items() if 2 * n >= len(by_seed)]
    return {
        seed: [values[group] for group in groups]
        for seed, values in by_seed.items()
        if all(group in values for group in groups)
    }
