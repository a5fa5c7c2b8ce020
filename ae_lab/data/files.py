"""What lies in a folder, and one process at a time in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock, Timeout

VERSION = 1  # to be raised when the same files come to be prepared differently


def scan(folder: Path, below: str = "") -> dict[str, tuple[int, int]]:
    """The files under a folder that are not hidden: {relative name: (bytes, mtime in ns)}."""
    found = {}
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                found |= scan(folder, f"{below}{entry.name}/")
            elif entry.is_file():
                status = entry.stat()
                found[f"{below}{entry.name}"] = (status.st_size, status.st_mtime_ns)
    return found


def source_key(files: dict[str, tuple[int, int]], **settings) -> str:
    """A digest of source files, as `scan` finds them, and of what is made of them."""
    content = repr([VERSION, sorted(settings.items()), sorted(files.items())])
    return blake2b(content.encode(), digest_size=8).hexdigest()


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock, saying so if another process has it."""
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
