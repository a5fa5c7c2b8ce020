"""What a person reads on the terminal."""

import os

from rich.console import Console
from rich.table import Table

# What Lightning reads, in its order, of who it is among the processes of a run on several devices.
# Those of srun and torchrun are set before a command starts, the others by Lightning.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
RANK_VARIABLE = next((name for name in RANK_VARIABLES if os.environ.get(name)), "")
RANK = int(os.environ.get(RANK_VARIABLE, 0)) or int(os.environ.get("NODE_RANK") or 0)


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
