"""The types of what a person sets at the top of a command's configuration.

The keys of parts are not here: each part annotates its own parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import TypedDict  # pydantic takes Python's own from 3.12 on


class Part(TypedDict):
    _target_: str


@dataclass
class TrainOptions:
    """`conf/config.yaml`."""

    latent: int
    depth: int
    hidden: Sequence[int] | None
    activation: str
    output: str | None
    norm: str
    dropout: float
    conditional: bool
    condition_encoder: bool
    seed: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    gradient_clip: float | None
    early_stopping: int | None
    compile: bool
    fast_path: bool
    extend: str | None
    init_from: str | None
    force: bool
    checkpoint_seconds: float
    sweep: dict
    run: dict
    run_metrics: dict[str, Part]
    figures: list[Part]


@dataclass
class EvaluateOptions:
    """`conf/evaluate.yaml`."""

    run: str | None
    split: str
    batch_size: int
    seed: int
    force: bool


@dataclass
class GenerateOptions:
    """`conf/generate.yaml`."""

    run: str | None
    n: int
    label: str | None
    columns: int
    seed: int
    file: str | None


@dataclass
class RestoreOptions:
    """`conf/restore.yaml`."""

    run: str | None
    input: str | Sequence[str] | None
    output: str | None
    corrupt: bool
    side: float | str | None
    tile: int
    self_ensemble: bool
    seed: int


@dataclass
class ExportOptions:
    """`conf/export.yaml`."""

    run: str | None
    output: str | None
    push: str | None


@dataclass
class AppOptions:
    """`conf/app.yaml`."""

    run: str | Sequence[str] | None
    host: str
    port: int
    browser: bool


# Keys within groups that are no parts.
NESTED = {"config": {"sweep.fail_fast": bool, "sweep.study": str | None, "sweep.trial": int | None}}
OPTIONS = {
    "config": TrainOptions,
    "evaluate": EvaluateOptions,
    "generate": GenerateOptions,
    "restore": RestoreOptions,
    "export": ExportOptions,
    "app": AppOptions,
}
