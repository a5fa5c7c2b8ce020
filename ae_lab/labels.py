"""What tells runs apart, in words."""

from collections.abc import Sequence

from ae_lab.run import Run

KNOBS = ("preset", "model", "noise", "depth", "activation", "conditional", "seed")


def varied(runs: Sequence[Run], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The settings in which the runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in sorted(names, key=lambda n: KNOBS.index(n) if n in KNOBS else len(KNOBS))
        if name not in leave_out and len({str(run.settings.get(name)) for run in runs}) > 1
    ]


def label_of(key: str, value: object) -> str:
    """A setting in words: a choice by its name alone, yes and no by the setting's."""
    if str(value) in ("True", "False"):
        return key if str(value) == "True" else f"not {key}"
    plain = key in ("preset", "model", "noise", "activation", "data")
    return str(value) if plain else f"{key} {value}"


def labels(
    runs: Sequence[Run], leave_out: tuple[str, ...] = (), by: Sequence[str] | None = None
) -> list[str]:
    """What tells each run from the others: the settings `by`, else those that vary, without those
    that follow from the ones before, as the latent dimensions from a preset."""
    keys = list(by) if by is not None else telling(runs, leave_out)
    shared = runs[0].settings.get("model", "") if runs else ""
    words = [", ".join(label_of(key, run.settings.get(key)) for key in keys) for run in runs]
    return [word or shared for word in words]


def telling(runs: Sequence[Run], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The settings that vary, each kept if it tells runs apart that the ones before do not."""
    keys: list[str] = []
    told = 1
    for key in varied(runs, leave_out):
        kinds = {tuple(str(run.settings.get(k)) for k in (*keys, key)) for run in runs}
        if len(kinds) > told:
            keys, told = [*keys, key], len(kinds)
    return keys


def alike(runs: Sequence[Run], but_for: str) -> list[list[Run]]:
    """The runs in groups whose members differ in one setting at most, in the order they came."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.kind(but_for), []).append(run)
    return list(groups.values())
