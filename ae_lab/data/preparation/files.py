"""What lies in a folder."""

import os
from hashlib import blake2b
from pathlib import Path

VERSION = 1  # to be raised when the same files come to be prepared differently


def scan(folder: Path, below: str = "") -> dict[str, tuple[int, int]]:
    """The files under a folder that are not hidden: {relative name: (bytes, mtime in ns)}."""
    files = {}
    with os.scandir(folder / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                files |= scan(folder, f"{below}{entry.name}/")
            elif entry.is_file():
                status = entry.stat()
                files[f"{below}{entry.name}"] = (status.st_size, status.st_mtime_ns)
    return files


def source_key(files: dict[str, tuple[int, int]], **settings) -> str:
    """A digest of source files, as `scan` finds them, and of what is made of them."""
    content = repr([VERSION, sorted(settings.items()), sorted(files.items())])
    return blake2b(content.encode(), digest_size=8).hexdigest()
