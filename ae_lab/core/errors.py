"""Errors a person can act on: one line that says what is wrong and names the cure."""

import difflib
import errno
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

# What a disk answers to those who write; the second may also be an answer to those who read.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
WRITABLE = "choose a folder that you can write to"
CLOSED = (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)


class UserError(Exception):
    """The request cannot be carried out; the message says why and what to do. Exit code 2."""


class RunFailed(Exception):
    """A run that had started could not finish; what it had saved is kept. Exit code 1."""


class CannotWrite(UserError):
    """A file cannot be written: the disk is full, or not ours to write to."""

    def __init__(self, path: Path | str, error: OSError):
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cure = "free some space there and rerun the command" if is_full else WRITABLE
        super().__init__(f"cannot write {path} ({error.strerror or error}): {cure}")


class Pruned(Exception):
    """A run whose first epochs promise little is left as it is; no failure."""


class Diverged(RunFailed):
    """Training has reached numbers that are not finite."""


def root_cause(error: BaseException) -> BaseException:
    """Our own error among an error's causes (Hydra wraps what constructors raise), else itself."""
    known = (cause for cause in causes(error) if isinstance(cause, UserError | RunFailed))
    return next(known, error)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on, each once: a library that raises an error again
    while it handles what followed from it makes a circle."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def disk_error(error: BaseException, numbers: tuple[int, ...] = FULL) -> OSError | None:
    """What a disk answered among an error's causes: libraries wrap it, and raise others after."""
    disk = (e for e in causes(error) if isinstance(e, OSError) and e.errno in numbers)
    return next(disk, None)


def suggest(word: str, choices: Iterable[str]) -> str:
    """The choice closest to a mistyped word as a question, else the list of choices."""
    choices = sorted(map(str, choices))
    lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(str(word).lower(), lower, n=1, cutoff=0.5)
    return f"did you mean '{lower[close[0]]}'?" if close else f"choose from: {', '.join(choices)}"


def check_choice(name: str, value, choices: dict):
    """`choices[value]`.

    Raises:
        UserError: unknown value; names the nearest valid one.
    """
    if value not in choices:
        raise UserError(f"{name}={value} is not known: {suggest(value, choices)}")
    return choices[value]


def check_int(name: str, value, minimum: int = 1) -> int:
    """The value itself if it is an integer >= `minimum`.

    Raises:
        UserError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise UserError(f"{name} must be an integer >= {minimum}, got {value}")
    return value


def check_float(
    name: str, value, low: float = 0.0, high: float = math.inf, exclusive: bool = False
) -> float:
    """The value as a float if it is finite and lies in [low, high], or in (low, high] if
    `exclusive`.

    Raises:
        UserError: anything else, `nan` and `inf` included.
    """
    valid = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not valid or value > high or value < low or (exclusive and value == low):
        limits = f"{'>' if exclusive else '>='} {low:g}"
        limits += f" and <= {high:g}" if math.isfinite(high) else ""
        raise UserError(f"{name} must be a finite number {limits}, got {value}")
    return float(value)
