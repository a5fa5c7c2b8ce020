"""COCO 2017: photographs of everyday scenes with the categories of the objects they show.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312.
"""

import contextlib
import io
from functools import cache as remembered
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listing, Listings, prepare
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
            self.categories = sorted(content.cats)
            self.names = {id: image["file_name"] for id, image in sorted(content.imgs.items())}
            self.boxes = [(box["image_id"], box["category_id"]) for box in content.anns.values()]
        except NOT_COCO as error:
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{path} is not a file of COCO's annotations ({why})") from error
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


def list_split(base: Path, part: str, ids: list[int], annotations: Annotations, files) -> Listing:
    """Those of the images `ids` whose files are there."""
    there = [id for id in ids if annotations.names[id] in files]
    if not there:
        raise UserError(
            f"none of the {len(ids):,} images of {annotation_file(base, part)} lies in "
            f"{base / part}: place them there"
        )
    names = [f"{part}/{annotations.names[id]}" for id in there]
    return Listing(names, np.stack([annotations.labels[id] for id in there]))


def find_mismatches(part: str, annotations: Annotations, files) -> list[str]:
    """What does not fit between the annotations and the files: a line each with an example."""
    names = set(annotations.names.values())
    stray = [box for box in annotations.boxes if box[0] not in annotations.names]
    troubles = {
        "annotated images have no file": sorted(names - set(files)),
        "files are not annotated and left out": sorted(set(files) - names),
        "boxes belong to no image": [f"image_id {image}" for image, _ in stray],
    }
    return [
        f"{part}: {len(found):,} {what}, e.g. {found[0]}"
        for what, found in troubles.items()
        if found
    ]


def list_splits(base: Path, files: dict[str, dict]) -> tuple[Listings, list[str]]:
    """The three splits of COCO, and what was noticed about their files.

    One permutation of train2017's annotated image ids says which are for validation, and in which
    order images come, so that the first n of them are a random sample. Neither changes when a file
    is missing.

    Raises:
        UserError: not COCO's annotations, or no files for them.
    """
    train, test = (Annotations(annotation_file(base, part)) for part in FOLDERS)
    if train.categories != test.categories:
        raise UserError(f"the two files in {base / 'annotations'} have different categories")
    ids = list(train.names)
    order = torch.randperm(len(ids), generator=generator(SPLIT_SEED, "coco")).tolist()
    shuffled = [ids[place] for place in order]
    count = round(VALIDATION * len(ids))
    by_name = sorted(test.names, key=test.names.__getitem__)
    listings = {
        "train": list_split(base, "train2017", shuffled[count:], train, files["train2017"]),
        "val": list_split(base, "train2017", shuffled[:count], train, files["train2017"]),
        "test": list_split(base, "val2017", by_name, test, files["val2017"]),
    }
    both = zip(FOLDERS, (train, test), strict=True)
    return listings, [
        line for part, read in both for line in find_mismatches(part, read, files[part])
    ]


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
    files = {name: scan(base / name) for name in (*FOLDERS, "annotations")}
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
        lambda: list_splits(base, files),
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
