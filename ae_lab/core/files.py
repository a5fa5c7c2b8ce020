"""Files that are complete or as they were, and locks."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ae_lab.core.errors import CLOSED, FULL, WRITABLE, CannotWrite, UserError, disk_error


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` once the block has ended.

    A process that is killed meanwhile, or an error in the block, leaves `path` as it was.

    Raises:
        CannotWrite: the disk is full, or not ours to write to.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, Exception) and (refused := disk_error(error, FULL + CLOSED)):
            raise CannotWrite(path, refused) from error
        raise


def check_writable(folder: Path, cure: str = WRITABLE) -> None:
    """Check, before any work, that files can be written to a folder, which need not exist yet.

    Raises:
        UserError: they cannot.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if _exists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"cannot write to {folder}: {cure}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # it lies in a folder that we may not look into
        return False


def write_text(path: Path, text: str) -> None:
    """In UTF-8, whatever the terminal has; names of files that are not are kept byte by byte."""
    with replace_atomically(path) as beside:
        beside.write_text(text, "utf-8", "surrogateescape")


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    """One line per row under the names of all columns."""
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue())


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock; where another process has it for long, say so and wait."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        print(f"waiting for another process that holds {path}", flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
