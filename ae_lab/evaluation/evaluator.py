"""The contract of evaluators, and what they return.

A new evaluator is one class and a file in `conf/evaluator/`, or in the folder `evaluator/` of a
`hydra.searchpath`, whose one key is the evaluator's name:

    sharpness:
      _target_: mine.Sharpness
      n: 100
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from ae_lab.inference.loaded_run import LoadedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ERROR_SUFFIX = "_se"


@dataclass
class Evaluation:
    """What an evaluator found out about a run.

    `rows` are named sets of numbers, the last row that of the run itself, those before what it
    compares with. Names, units and formats of numbers are in `ae_lab.tracking.quantities`; a
    number `psnr` may have its standard error beside it as `psnr_se`.

    `title` states all that the rows have in common: rows of evaluations of the same run by the
    same evaluator under the same title are shown in one table.

    `per_image` has a column (N,) for each name, a value for each image of a split in its order.
    `figures` are images (C, H, W) in [0, 1] or matplotlib's figures.
    """

    title: str
    rows: dict[str, dict[str, float]]
    note: str = ""  # shown below the table
    per_image: dict[str, Tensor] = field(default_factory=dict)
    figures: dict[str, Tensor | Figure] = field(default_factory=dict)


class Evaluator(Protocol):
    """A way to say how good a finished run is."""

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        """Evaluate a run. The model must be left as it was.

        Raises:
            NotApplicable: this kind of run has no such numbers.
            UserError: it cannot be done with these settings.
        """


def summarize(values: dict[str, Tensor]) -> dict[str, float]:
    """The mean of each column (N,), and from two images on its standard error."""
    numbers = {}
    for name, column in values.items():
        numbers[name] = float(column.mean())
        if len(column) > 1:
            numbers[name + ERROR_SUFFIX] = float(column.std() / len(column) ** 0.5)
    return numbers
