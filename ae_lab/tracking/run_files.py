"""Files of run folders and sweeps are foreign input: read and checked here, or explained in a line.

A folder may be half copied, of another version, or written while a disk was full. What is missing
is None; what is there has the types that its readers use, or is an `UnusableFile`.
"""

import csv
import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from types import NoneType
from typing import Any

import yaml

from ae_lab.core.errors import RunFailed, UserError

NUMBER = (int, float)
# Types, by name where there are names that must be there ("?": that may be), else of all values.
RECORD = {
    "format?": int,
    "data": {"name": str, "title": str, "fingerprint": str},
    "metrics?": {str: (bool, NoneType)},
    "choices?": {str: str},
    "configuration": {str: object},
    "identity": {str: object},
}
STATUS = {"state": str}
METRICS = {str: NUMBER}
RUN_METRICS = {str: {"settings": str, "value": (*NUMBER, NoneType)}}
ENVIRONMENT = {str: str}
CONFIG = {
    "model": {"_target_": str},
    "data": {"_target_": str, "source": {"_target_": str}},
    "noise": {"_target_": str},
    **{key: {str: object} for key in ("trainer", "callbacks?", "logger?", "paths")},
}
HYDRA = {"hydra": {"overrides": {"hydra": [str]}}}
MULTIRUN = {"figures?": [{str: object}], "run_metrics?": {str: {str: object}}}
JOB = {"overrides": [str], "choices": {str: str}, "run?": str, "error?": str}
SWEEP = {"started": str, "key": str, "data": {str: str}, "jobs": {str: JOB}}
EVALUATION = {"title": str, "note": str, "rows": {str: {str: NUMBER}}, "subject?": str}

SEAL = "# whole: "

AGAIN = "rerun the run's command, which writes it again"
DELETE = "delete it, nothing else is lost"


class UnusableFile(UserError):
    """A file of a folder is damaged or missing; `why` says it in short."""

    kind = "damaged"

    def __init__(self, path: Path, why: str, cure: str):
        super().__init__(f"{path} {why}: {cure}")
        self.path, self.why, self.cure = path, f"{path.name} {why}", cure


class UnreadableFile(UnusableFile):
    """We may not read a file, which may well be whole."""

    kind = "unreadable"

    def __init__(self, path: Path, error: OSError):
        super().__init__(path, f"cannot be read ({error.strerror})", "make it readable")


def read_json(path: Path, shape: object, cure: str) -> Any:
    """The content of a JSON file, None if there is none.

    Raises:
        UnusableFile: it cannot be read, or its content does not have the shape.
    """
    return _read(path, shape, cure, json.loads)


def read_yaml(path: Path, shape: object, cure: str) -> Any:
    """The content of a YAML file as it is written, interpolations too, None if there is none.

    Raises:
        UnusableFile: it cannot be read, or its content does not have the shape.
    """
    return _read(path, shape, cure, load_yaml)


def seal(text: str) -> str:
    """A YAML text with a last line that tells a reader that all of it is there, as it was written:
    to check that is a hundred times as fast as to parse it."""
    return f"{text}{SEAL}{blake2b(text.encode(), digest_size=8).hexdigest()}\n"


def check_yaml(path: Path, shape: object, cure: str) -> bool:
    """Check that a YAML file is as it was written, or has the shape that it must have; whether
    there is one.

    Raises:
        UnusableFile: it cannot be read, or its content does not have the shape.
    """
    with _explained(path, cure):
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if text == seal(text.rpartition(SEAL)[0]):
            return True
    return read_yaml(path, shape, cure) is not None


def load_yaml(text: str) -> Any:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the first is ten times as fast
    return yaml.load(text, loader)


def read_table(path: Path, cure: str) -> list[dict[str, float]]:
    """The rows of a CSV file of numbers; fields may be empty.

    Raises:
        UnusableFile: it cannot be read, or a row does not have a field for each column.
    """

    def parse(text: str) -> list[dict[str, float]]:
        rows = list(csv.DictReader(text.splitlines()))
        if not rows:
            raise ValueError("it has no row")
        if not all(row.keys() >= {"epoch"} and None not in {*row, *row.values()} for row in rows):
            raise ValueError("a row is not complete")
        return [{key: float(value) for key, value in row.items() if value} for row in rows]

    return _read(path, [{str: float}], cure, parse) or []


def check_archive(path: Path) -> None:
    """Check, at the price of its last bytes, that a checkpoint is there and was written to its end.

    Raises:
        UnusableFile: it is not.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnusableFile(
            path, "is missing", "rerun the run's command: it trains again"
        ) from error
    except OSError as error:
        raise UnreadableFile(path, error) from error
    raise UnusableFile(path, "is damaged", "delete it and rerun the run's command")


def load_checkpoint(path: Path) -> dict | None:
    """A checkpoint's content, None if there is none.

    Raises:
        RunFailed: the file is damaged or cannot be read.
    """
    import torch

    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RunFailed(str(UnreadableFile(path, error))) from error
    try:
        with file:
            content = torch.load(file, map_location="cpu", weights_only=True)
        _ = content["state_dict"], content["global_step"]
    except Exception as error:
        raise RunFailed(
            f"{path} is damaged ({type(error).__name__}): delete it and rerun the run's command, "
            "which starts again without it, or put a copy back"
        ) from error
    return content


def _read(path: Path, shape: object, cure: str, parse: Callable[[str], Any]) -> Any:
    with _explained(path, cure):
        try:
            text = path.read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not text.strip():
            raise ValueError("it is empty")
        if not text.endswith("\n") and parse is not json.loads:  # a part of these may look whole
            raise ValueError("its end is missing")
        content = parse(text)
        if mismatch := find_mismatch(content, shape):
            raise ValueError(mismatch)
        return content


@contextmanager
def _explained(path: Path, cure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnreadableFile(path, error) from error
    except Exception as error:
        why = " ".join(str(error).split())[:100]
        raise UnusableFile(path, f"is damaged ({why})", cure) from error


def find_mismatch(value: object, shape: Any, place: str = "it") -> str:
    """Where a value does not have the types of a shape, in words; empty if it has.

    >>> find_mismatch({"state": 5}, {"state": str})
    "'state' is not text"
    """
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{place} is not a list"
        found = (find_mismatch(one, shape[0], place) for one in value)
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{place} is not a mapping"
        if shape == {str: object}:
            return ""
        names = {str(name).rstrip("?"): name for name in shape}
        if missing := [n for n, name in names.items() if name == n and n not in value]:
            return f"'{missing[0]}' is missing"
        shapes = {key: shape.get(str, shape.get(names.get(key, key), object)) for key in value}
        found = (find_mismatch(value[key], shapes[key], f"'{key}'") for key in value)
    else:
        words = {str: "text", int: "a whole number"}.get(shape, "a number")
        return "" if isinstance(value, shape) else f"{place} is not {words}"
    return next(filter(None, found), "")
