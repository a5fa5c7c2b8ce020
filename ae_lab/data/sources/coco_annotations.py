"""Annotations in COCO's format, and the files of the images they name."""

import contextlib
import io
from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np

from ae_lab.core.errors import UserError
from ae_lab.data.preparation.cache import Listing

# What pycocotools raises on files of another kind
NOT_COCO = (OSError, ValueError, AssertionError, LookupError, TypeError, AttributeError)


class Annotations:
    """The images and boxes of one of COCO's files: names, ids and categories, no outlines.

    Raises:
        UserError: the file is not in COCO's format.
    """

    def __init__(self, path: Path):
        from pycocotools.coco import COCO

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                content = COCO(str(path))
            categories = sorted((number(id), one.get("name")) for id, one in content.cats.items())
            names = sorted((number(id), one["file_name"]) for id, one in content.imgs.items())
            boxes = [(box["image_id"], box["category_id"]) for box in content.anns.values()]
            self.boxes = [(number(image), number(category)) for image, category in boxes]
        except NOT_COCO as error:
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{path} is not a file of COCO's annotations ({why})") from error
        self.path, self.categories, self.names = path, dict(categories), dict(names)
        if not (self.categories and self.names):
            raise UserError(f"{path} names no categories or no images: it is not COCO's file")

    @cached_property
    def labels(self) -> dict[int, np.ndarray]:
        """{image id: uint8 (K,)}, 1 for the categories of its boxes, crowds included."""
        column = {category: place for place, category in enumerate(self.categories)}
        labels = {id: np.zeros(len(column), np.uint8) for id in self.names}
        for image, category in self.boxes:
            if image in labels and category in column:
                labels[image][column[category]] = 1
        return labels


def number(id: int | str) -> int:
    """An id, which some programs write as text."""
    return int(id) if isinstance(id, str) else id


class Part:
    """Annotations, and for each of their images its file in a folder, where that is clear.

    Raises:
        UserError: no image has a file.
    """

    def __init__(self, base: Path, folder: str, annotations: Annotations, files: Iterable[str]):
        self.folder, self.annotations, self.labels = folder, annotations, annotations.labels
        images, self.unlisted = match_files(annotations.names, files)
        self.files = {id: f"{folder}/{name}" for id, name in images.items()}
        if not self.files:
            example = min(annotations.names.values())
            there = f": there is {self.unlisted[0]}, for example" if self.unlisted else ""
            raise UserError(
                f"none of the {len(annotations.names):,} images of {annotations.path} lies in "
                f"{base / folder}; looked for {base / folder / example}{there}"
            )

    def listing(self, ids: list[int]) -> Listing:
        if not ids:
            return Listing([], np.zeros((0, len(self.annotations.categories)), np.uint8))
        return Listing([self.files[id] for id in ids], np.stack([self.labels[id] for id in ids]))

    @property
    def notes(self) -> list[str]:
        """What does not fit between the annotations and the files: a line each with an example."""
        known, names = self.annotations.categories, self.annotations.names
        boxes = self.annotations.boxes
        strange = [f"category_id {category}" for _, category in boxes if category not in known]
        troubles = {
            "annotated images have no file": sorted(names[id] for id in names.keys() - self.files),
            "files are not annotated and left out": self.unlisted,
            "boxes belong to no image": [f"image_id {id}" for id, _ in boxes if id not in names],
            "boxes are of no category that the file lists": strange,
        }
        return [
            f"{self.folder}: {len(found):,} {what}, e.g. {found[0]}"
            for what, found in troubles.items()
            if found
        ]


def match_files(names: dict[int, str], files: Iterable[str]) -> tuple[dict[int, str], list[str]]:
    """Images' files by id, and files that are of no image.

    A name that is not there as it is written, as `train2017/7.jpg`, `/data/7.jpg` or `7.JPG`,
    stands for the one file that is called so but for case and folders; if there are several, for
    the one that shares most of the folders.
    """
    files = set(files)
    matched = {id: name for id, name in names.items() if name in files}
    called: dict[str, list[str]] = {}
    for file in files.difference(matched.values()):
        called.setdefault(_steps(file)[0], []).append(file)
    for id in sorted(names.keys() - matched):
        steps = _steps(names[id])
        shared = {file: _count_equal(steps, _steps(file)) for file in called.get(steps[0], [])}
        best = [file for file, count in shared.items() if count == max(shared.values())]
        if len(best) == 1:
            matched[id] = best[0]
    return matched, sorted(files.difference(matched.values()))


def _steps(name: str) -> list[str]:
    """A path from its end, without regard to case and to the kind of slash."""
    return name.replace("\\", "/").lower().split("/")[::-1]


def _count_equal(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
