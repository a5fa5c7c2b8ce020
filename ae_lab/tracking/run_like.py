"""The contract that runs and their saved results share."""

from pathlib import Path
from typing import Any, Protocol


class RunLike(Protocol):
    """What tables, figures and claims read of a run: of its folder, or of its saved results."""

    path: Path | None  # None where the numbers alone were saved
    name: str
    title: str  # what tables and figures call its data
    settings: dict[str, Any]  # what a person chose, flat
    metrics: dict[str, float]
    history: list[dict[str, float]]  # one row an epoch
    metric_directions: dict[str, bool | None]  # of its test metrics: whether higher is better

    def group_key(self, ignoring: str) -> str:
        """A key that runs share which differ in one setting at most."""
