"""What a person reads on the terminal."""

import os

from rich.console import Console
from rich.table import Table

# Lightning starts the processes of a run on several devices with these set.
RANK = int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def print_rank_zero(line: str) -> None:
    """Print a line, from one of a run's processes only."""
    if RANK == 0:
        print(line, flush=True)


def print_table(table: Table) -> None:
    """Print a table in full: a pipe or a log file has no width to fold to."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
