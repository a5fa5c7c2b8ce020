"""COCO 2017: photographs of everyday scenes with the categories of the objects they show.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312.
"""

import contextlib
import io
from collections.abc import Collection, Iterable
from functools import cache as remembered
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np
import torch

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listing, Listings, Plan, prepare
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.availability import is_available_or_warn
from ae_lab.data.sources.coco_files import (
    CATEGORIES,
    FOLDERS,
    annotation_file,
    find_or_download,
)
from ae_lab.data.sources.mnist import SPLIT_SEED
from ae_lab.data.sources.photos import embedded_photos

CHOICE = "AE_LAB_AUTO_PHOTOGRAPHS"  # what data=auto64 chose
OFFICIAL = 118_287  # images of train2017
VALIDATION = 0.05  # of train2017; val2017 is the test set
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
    for id in names.keys() - matched:
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


def plan_splits(train: Part, test: Part) -> Plan:
    """The three splits of COCO.

    One permutation of train2017's annotated image ids says which are for validation, and in which
    order images come, so that the first n of them are a random sample. Neither changes when a file
    is missing, unless no image for validation, or none to train on, were left.
    """
    ids = list(train.annotations.names)
    order = torch.randperm(len(ids), generator=generator(SPLIT_SEED, "coco")).tolist()
    shuffled = [ids[place] for place in order]
    held = set(shuffled[: round(VALIDATION * len(ids))])
    names = test.annotations.names

    def split(usable: Collection[str]) -> Listings:
        usable = set(usable)
        there = [id for id in shuffled if train.files.get(id) in usable]
        val = [id for id in there if id in held]
        if len(val) in (0, len(there)):
            val = there[: max(1, round(VALIDATION * len(there)))]
        chosen = set(val)
        tests = [id for id in sorted(names, key=names.get) if test.files.get(id) in usable]
        return {
            "train": train.listing([id for id in there if id not in chosen]),
            "val": train.listing(val),
            "test": test.listing(tests),
        }

    return Plan([*train.files.values(), *test.files.values()], split, train.notes + test.notes)


def plan_coco(base: Path, files: dict[str, dict], notes: list[str]) -> Plan:
    """What is prepared of the official layout.

    Raises:
        UserError: not COCO's annotations, or too few files for them.
    """
    read = [Annotations(annotation_file(base, part)) for part in FOLDERS]
    if len({tuple(annotations.categories) for annotations in read}) > 1:
        raise UserError(f"the two files in {base / 'annotations'} have different categories")
    train, test = (
        Part(base, folder, annotations, files[folder])
        for folder, annotations in zip(FOLDERS, read, strict=True)
    )
    if len(train.files) < 2:
        raise UserError(f"{base / FOLDERS[0]} has one image: one is to train, another to validate")
    plan = plan_splits(train, test)
    plan.notes += notes
    return plan


@remembered
def coco(
    folder: str, cache: str, size: int, gray: bool = False, download: bool = False
) -> ImageSet:
    """COCO 2017 as squares of `size` pixels, labelled with its 80 categories, multi-hot.

    It is read from `folder`/coco, in the layout of the official archives: `train2017/`, `val2017/`
    and `annotations/instances_{train,val}2017.json`, once; what is made of it is kept in `cache`.
    Labels are in the order of the official category ids; a crowd counts as a box, images without
    boxes have no label. A fixed 5 % of train2017 is for validation, val2017 is the test set.

    Raises:
        UserError: files are missing and cannot be had, or the annotations are not COCO's.
    """
    base = Path(folder).expanduser() / "coco"
    find_or_download(base, download)
    scans = {name: scan(base / name) for name in (*FOLDERS, "annotations")}
    files = {name: found.files for name, found in scans.items()}
    notes = [f"{name}: {line}" for name, found in scans.items() for line in found.notes]
    read = {f"{part}/{name}": files[part][name] for part in FOLDERS for name in files[part]}
    for path in (annotation_file(base, part) for part in FOLDERS):
        read[path.name] = files["annotations"][path.name]
    kind = f"{size}×{size}{' gray' if gray else ''}"
    key = source_key(read, data="coco", size=size, gray=gray)
    prepared = prepare(
        Path(cache).expanduser(),
        key,
        f"COCO {kind}",
        base,
        lambda: plan_coco(base, files, notes),
        size,
        gray,
    )
    count = prepared.about["splits"]["train"] + prepared.about["splits"]["val"]
    title = f"COCO {kind}" if count == OFFICIAL else f"COCO subset ({count:,} images) {kind}"
    name = f"coco{size}{'_gray' if gray else ''}"
    return ImageSet(
        name,
        title,
        **prepared.splits,
        fingerprint=prepared.fingerprint,
        class_names=CATEGORIES,
    )


def coco_or_embedded(
    folder: str, cache: str, size: int, gray: bool = False, download: bool = False
) -> ImageSet:
    """COCO if it is there, else the embedded photographs, and says so.

    The choice is made once and handed to every process started from here.

    Raises:
        UserError: COCO's files are there and cannot be used.
    """
    there = is_available_or_warn(
        CHOICE,
        lambda: find_or_download(Path(folder).expanduser() / "coco", download),
        "COCO is not here: using crops of a few embedded photographs.",
        f"data=auto{size}{'_gray' if gray else ''}",
    )
    return (
        coco(folder, cache, size, gray, download)
        if there
        else embedded_photos(size, gray, len(CATEGORIES))
    )
