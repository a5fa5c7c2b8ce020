"""What lies in a folder."""

import os
from collections import Counter, deque
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

VERSION = 1  # to be raised when the same files come to be prepared differently
OPAQUE = {".jpg", ".jpeg", ".json"}  # files without transparent pixels


class Scan(NamedTuple):
    """The files under a folder, {relative name: (bytes, mtime in ns)}, and {what of it cannot be
    read: why}."""

    files: dict[str, tuple[int, int]]
    unreadable: dict[str, str]

    @property
    def notes(self) -> list[str]:
        """A line on what cannot be read, if there is any."""
        if not self.unreadable:
            return []
        example, why = min(self.unreadable.items())
        count = len(self.unreadable)
        return [f"{count:,} sub-folders or links cannot be read, e.g. {example} ({why})"]


def scan(folder: Path) -> Scan:
    """What lies under a folder and is not hidden, in linked sub-folders too.

    Each sub-folder is visited once: by its own name where it has one here, whatever links to it.
    Links to what lies above are not followed.
    """
    found, waiting = Scan({}, {}), deque([""])
    visited = {(s.st_dev, s.st_ino) for s in map(Path.stat, folder.resolve().parents)}
    while waiting:
        below = waiting.popleft()
        try:
            status = (folder / below).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder / below) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.unreadable[below.rstrip("/") or "."] = error.strerror
            continue
        for entry in reversed(inside):
            if not entry.name.startswith("."):
                _look_at(entry, f"{below}{entry.name}", found, waiting)
    return found


def _look_at(entry: os.DirEntry, name: str, found: Scan, waiting: deque[str]) -> None:
    """Note a file, or that a folder is yet to be visited: a link to one after all folders."""
    try:
        if entry.is_dir(follow_symlinks=False):
            waiting.appendleft(f"{name}/")
        elif entry.is_dir():
            waiting.append(f"{name}/")
        elif entry.is_file():
            status = entry.stat()
            found.files[name] = (status.st_size, status.st_mtime_ns)
        else:
            entry.stat()
    except OSError as error:  # as of links in a circle, or to nowhere
        found.unreadable[name] = error.strerror


def count_kinds(names: Iterable[str]) -> str:
    """How many files there are of each kind, the most frequent first.

    >>> count_kinds(["a.HEIC", "b/c.heic", "d"])
    '2 .heic, 1 without suffix'
    """
    kinds = Counter(Path(name).suffix.lower() or "without suffix" for name in names)
    return ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())


def source_key(files: dict[str, tuple[int, int]], **settings) -> str:
    """A digest of source files, as `scan` finds them, and of what is made of them."""
    if any(Path(name).suffix.lower() not in OPAQUE for name in files):
        # What becomes of transparent pixels and 16 bits; folders without them keep their key.
        settings["ground"] = "white, upright"
    content = repr([VERSION, sorted(settings.items()), sorted(files.items())])
    return blake2b(content.encode(), digest_size=8).hexdigest()
