"""A data set if it is available, another one if not: decided once, and announced."""

import os
from collections.abc import Callable

from rich import print as notice
from rich.panel import Panel

from ae_lab.core.errors import UserError


def is_available_or_warn(
    variable: str, obtain: Callable[[], object], instead: str, title: str
) -> bool:
    """Whether `obtain` finds what it looks for; if not, `instead` says what is used.

    The answer is kept in an environment variable, and so handed to every process started from here.
    """
    if variable not in os.environ:
        try:
            obtain()
            os.environ[variable] = "yes"
        except UserError as error:
            os.environ[variable] = "no"
            notice(Panel(f"[bold]{instead}[/]\n{error}", title=title, border_style="yellow"))
    return os.environ[variable] == "yes"
