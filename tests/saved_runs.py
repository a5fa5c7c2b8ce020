"""Saved runs for tests of figures and claims."""

from ae_lab.tracking.saved_results import SavedRun


def saved_runs(*groups: tuple[dict, list[float]], metric: str = "m") -> list[SavedRun]:
    """Runs of which settings and one metric are known, a seed for each of a group's values."""
    runs = []
    for settings, values in groups:
        for seed, value in enumerate(values):
            row = {"run": "r", "data": "d", "kind": str(settings), metric: str(value)}
            columns = {f"set.{k}": str(v) for k, v in (settings | {"seed": seed}).items()}
            runs.append(SavedRun(row | columns, []))
    return runs
