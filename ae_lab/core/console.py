"""What a person reads on the terminal."""

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from ae_lab.core.environment import read_rank

RANK_VARIABLE, RANK = read_rank()
PIPE_WIDTH = 160  # columns
LEAST_WIDTH = 16  # columns that a folding cell keeps, or all of it if that is less


def print_rank_zero(line: str) -> None:
    """Print a line, from one of a run's processes only."""
    if RANK == 0:
        print(line, flush=True)


def plain_console() -> Console:
    """Rich's console of standard output, to which [brackets] and :colons: are no markup."""
    return Console(markup=False, emoji=False)


def print_table(table: Table) -> None:
    """Print a table of texts: a pipe or a log file has no width to fold to, but on a terminal too
    narrow for its columns each row becomes a block of lines."""
    console = plain_console()
    needed = sum(map(needed_width, table.columns)) + 3 * len(table.columns) + 1
    if not console.is_terminal:
        console.width = max(PIPE_WIDTH, needed)
    elif console.width < needed:
        table = fold(table)
    console.print(table)


def needed_width(column: Column) -> int:
    """How many columns of the terminal a table's column needs to be read."""
    lines = [line for cell in (column.header, *column.cells) for line in str(cell).split("\n")]
    widest = max(map(cell_len, lines))
    return widest if column.no_wrap else min(widest, LEAST_WIDTH)


def fold(table: Table) -> Table:
    """The same cells below each other: what a row is called, then a line for each other column."""
    folded = Table(title=table.title, caption=table.caption, show_header=False)
    folded.title_justify, folded.caption_justify = table.title_justify, table.caption_justify
    folded.add_column(overflow="fold")
    for name, *cells in zip(*(column.cells for column in table.columns), strict=True):
        lines = [f"  {c.header}: {cell}" for c, cell in zip(table.columns[1:], cells, strict=True)]
        folded.add_row("\n".join([name, *lines]), end_section=True)
    return folded
