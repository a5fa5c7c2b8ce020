"""The images written so far, and the record by which a killed preparation goes on."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np


class Journal:
    """What has been done of a preparation: for each file why it could not be used, or None."""

    def __init__(self, folder: Path, row: int):
        """Go on with what a killed preparation left; `row` is the size of an image in bytes."""
        self.images, self.lines = folder / "images.u8", folder / "journal"
        self.images.touch()
        self.lines.touch()
        written, length = self.images.stat().st_size // row, 0
        self.whys: list[str | None] = []
        for line in self.lines.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            why = json.loads(line)
            written -= why is None
            if written < 0:
                break
            self.whys.append(why)
            length += len(line)
        os.truncate(self.lines, length)
        os.truncate(self.images, row * self.whys.count(None))

    def append(self, chunks: Iterable[list[np.ndarray | str]]) -> Iterator[int]:
        """Write chunks as they come; yields how many files each of them had."""
        with self.images.open("ab") as images, self.lines.open("a") as lines:
            for chunk in chunks:
                images.write(b"".join(one.data for one in chunk if not isinstance(one, str)))
                images.flush()  # an image is there before it is noted
                whys = [one if isinstance(one, str) else None for one in chunk]
                lines.write("".join(json.dumps(why) + "\n" for why in whys))
                lines.flush()
                self.whys += whys
                yield len(chunk)
