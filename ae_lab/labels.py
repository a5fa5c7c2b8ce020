"""What tells runs apart, in words."""

from ae_lab.run import Run

KNOBS = ("preset", "model", "noise", "depth", "activation", "conditional", "seed")


def varied(runs: list[Run], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The settings in which the runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in sorted(names, key=lambda n: KNOBS.index(n) if n in KNOBS else len(KNOBS))
        if name not in leave_out and len({str(run.settings.get(name)) for run in runs}) > 1
    ]


def labels(runs: list[Run], leave_out: tuple[str, ...] = ()) -> list[str]:
    """What tells each run from the others: its preset where each has one, else what varies."""
    presets = [run.settings.get("preset", "None") for run in runs]
    if "None" not in presets and len(set(presets)) == len(runs):
        return presets
    keys = varied(runs, leave_out)
    shared = runs[0].settings.get("model", "") if runs else ""
    words = [", ".join(f"{key} {run.settings.get(key)}" for key in keys) for run in runs]
    return [word or shared for word in words]


def alike(runs: list[Run], but_for: str) -> list[list[Run]]:
    """The runs in groups whose members differ in one setting at most, in the order they came."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        identity = sorted(run.record["identity"].items())
        key = [pair for pair in identity if pair[0].rpartition(".")[2] != but_for]
        groups.setdefault(str(key), []).append(run)
    return list(groups.values())
