"""A data set if it is available, another one if not: decided once, and announced."""

import os
from collections.abc import Callable

from rich.panel import Panel
from rich.text import Text

from ae_lab.core.console import plain_console
from ae_lab.core.errors import UserError, check_choice


def is_available_or_warn(
    variable: str, obtain: Callable[[], object], instead: str, title: str
) -> bool:
    """Whether `obtain` finds what it looks for; if not, `instead` says what is used.

    The answer is kept in an environment variable, and so handed to every process started from here.

    Raises:
        UserError: the variable has another value than yes or no.
    """
    if not os.environ.get(variable):
        try:
            obtain()
            os.environ[variable] = "yes"
        except UserError as error:
            os.environ[variable] = "no"
            what = Text.assemble((instead, "bold"), f"\n{error}")
            plain_console().print(Panel(what, title=title, border_style="yellow"))
    return check_choice(variable, os.environ[variable], {"yes": True, "no": False})
