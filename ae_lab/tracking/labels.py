"""What distinguishes runs from each other, in words."""

import re
from collections.abc import Sequence
from functools import cache

from ae_lab.core.configuration import CONF
from ae_lab.tracking.run_like import RunLike

FIRST = ("preset", "model", "body", "noise", "depth", "activation", "conditional", "seed")
MAX_TITLES = 3  # of data sets that are named
NAMED_BY_VALUE = ("preset", "model", "body", "noise", "activation", "data")


def data_title(runs: Sequence[RunLike]) -> str:
    """What tables and figures say of the data they are about: of many, the first and how many."""
    titles = sorted({run.title for run in runs})
    if len(titles) > MAX_TITLES:
        titles = [titles[0], f"{len(titles) - 1} others"]
    return " and ".join(titles)


def varied_settings(runs: Sequence[RunLike], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The settings in which the runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in sorted(names, key=lambda n: FIRST.index(n) if n in FIRST else len(FIRST))
        if name not in leave_out and len({str(run.settings.get(name)) for run in runs}) > 1
    ]


def distinguishing_settings(runs: Sequence[RunLike], leave_out: tuple[str, ...] = ()) -> list[str]:
    """The settings that vary, each kept if it separates runs that the ones before do not."""
    keys: list[str] = []
    num_groups = 1
    for key in varied_settings(runs, leave_out):
        groups = {tuple(str(run.settings.get(k)) for k in (*keys, key)) for run in runs}
        if len(groups) > num_groups:
            keys, num_groups = [*keys, key], len(groups)
    return keys


def labels(
    runs: Sequence[RunLike], leave_out: tuple[str, ...] = (), by: Sequence[str] | None = None
) -> list[str]:
    """A name for each run: its settings `by`, else those that distinguish it from the others."""
    keys = list(by) if by is not None else distinguishing_settings(runs, leave_out)
    shared = runs[0].settings.get("model", "") if runs else ""
    words = [", ".join(label_of(key, run.settings.get(key)) for key in keys) for run in runs]
    return [word or shared for word in words]


def label_of(key: str, value: object) -> str:
    """A setting in words: a choice by its name alone, yes and no by the setting's.

    >>> label_of("noise.sigma", 0.1)
    'sigma 0.1'
    """
    if str(value) in ("True", "False"):
        return key if str(value) == "True" else f"not {key}"
    if key == "preset":
        return preset_title(str(value))
    return str(value) if key in NAMED_BY_VALUE else f"{end_of_key(key)} {value}"


def end_of_key(key: str) -> str:
    """The last part of a dotted key, in words.

    >>> end_of_key("model.bottleneck.quantizer.codebook_size")
    'codebook size'
    """
    return key.rpartition(".")[2].replace("_", " ")


@cache
def preset_title(name: str) -> str:
    """A preset's title, the line `# Title: ...` of its file; else its name."""
    file = CONF / "preset" / f"{name}.yaml"
    title = (
        re.search(r"^# Title: (.+)$", file.read_text(), re.MULTILINE) if file.is_file() else None
    )
    return title[1] if title else name


def group_by_all_but(setting: str, runs: Sequence[RunLike]) -> list[list[RunLike]]:
    """The runs in groups whose members differ in one setting at most, in the order they came."""
    groups: dict[str, list[RunLike]] = {}
    for run in runs:
        groups.setdefault(run.group_key(ignoring=setting), []).append(run)
    return list(groups.values())
