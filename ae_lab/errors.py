"""Errors a person can act on: one line that says what is wrong and names the cure."""

import difflib
import math
from collections.abc import Iterable


class UserError(Exception):
    """Something asked for cannot be done; the message is all a person needs. Exit code 2."""


class RunFailed(Exception):
    """A run that had started could not finish; what it had saved is kept. Exit code 1."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The choice closest to a mistyped word as a question, else the list of choices."""
    choices = sorted(map(str, choices))
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"choose from: {', '.join(choices)}"


def choose(name: str, value, choices: dict):
    """`choices[value]`.

    Raises:
        UserError: unknown value; names the nearest valid one.
    """
    if value not in choices:
        raise UserError(f"{name}={value} is not known: {nearest(value, choices)}")
    return choices[value]


def whole(name: str, value, least: int = 1) -> int:
    """The value itself if it is a whole number >= `least`.

    Raises:
        UserError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name}={value} is impossible: give a whole number of at least {least}")
    return value


def real(name: str, value, low: float = 0.0, high: float = math.inf, above: bool = False) -> float:
    """The value as a float if it is finite and lies in [low, high], or in (low, high] if `above`.

    Raises:
        UserError: anything else, `nan` and `inf` included.
    """
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or value > high or value < low or (above and value == low):
        limits = f"above {low:g}" if above else f"of at least {low:g}"
        limits += f" and at most {high:g}" if math.isfinite(high) else ""
        raise UserError(f"{name}={value} is impossible: give a finite number {limits}")
    return float(value)
