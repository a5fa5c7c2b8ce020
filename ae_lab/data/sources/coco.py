"""COCO 2017: photographs of everyday scenes with the categories of the objects they show.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv:1405.0312.
"""

from collections.abc import Collection
from functools import cache as remembered
from pathlib import Path

import torch

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listings, Plan, prepare
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.availability import is_available_or_warn
from ae_lab.data.sources.coco_annotations import Annotations, Part
from ae_lab.data.sources.coco_export import find_export, read_export
from ae_lab.data.sources.coco_files import (
    CATEGORIES,
    FOLDERS,
    annotation_file,
    find_or_download,
)
from ae_lab.data.sources.folder import count_patches, describe_images
from ae_lab.data.sources.mnist import SPLIT_SEED
from ae_lab.data.sources.photos import embedded_photos

CHOICE = "AE_LAB_AUTO_PHOTOGRAPHS"  # what data=auto64 chose
OFFICIAL = 118_287  # images of train2017
VALIDATION = 0.05  # of train2017; val2017 is the test set


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


def find_coco(folder: Path, download: bool) -> None:
    """See that there is something to read, an export or the official layout.

    Raises:
        UserError: there is not; says where it looked and what helps.
    """
    if not find_export(folder):
        find_or_download(folder / "coco", download)


@remembered
def coco(
    folder: str,
    cache: str,
    size: int,
    gray: bool = False,
    download: bool = False,
    crop: str = "square",
    num_patches: int = 16,
) -> ImageSet:
    """COCO 2017 as squares of `size` pixels, labelled with its 80 categories, multi-hot.

    It is read from `folder`/coco, in the layout of the official archives: `train2017/`, `val2017/`
    and `annotations/instances_{train,val}2017.json`, once; what is made of it is kept in `cache`.
    Labels are in the order of the official category ids; a crowd counts as a box, images without
    boxes have no label. A fixed 5 % of train2017 is for validation, val2017 is the test set. An
    export of Roboflow's in place of COCO keeps its own splits and categories. `crop` says what of a
    photograph is taken, as in `image_folder`.

    Raises:
        UserError: files are missing and cannot be had, or the annotations are not COCO's.
    """
    patches = count_patches(crop, num_patches)
    if crop == "none":
        raise UserError("crop=none is for data=folder, as data.source.path=coco/val2017")
    if export := find_export(Path(folder).expanduser()):
        return read_export(export, Path(cache).expanduser(), size, gray, patches)
    base = Path(folder).expanduser() / "coco"
    find_or_download(base, download)
    scans = {name: scan(base / name) for name in (*FOLDERS, "annotations")}
    files = {name: found.files for name, found in scans.items()}
    notes = [f"{name}: {line}" for name, found in scans.items() for line in found.notes]
    read = {f"{part}/{name}": files[part][name] for part in FOLDERS for name in files[part]}
    for path in (annotation_file(base, part) for part in FOLDERS):
        read[path.name] = files["annotations"][path.name]
    kind = describe_images(size, gray, patches)
    cut = {"patches": patches} if patches else {}
    key = source_key(read, data="coco", size=size, gray=gray, **cut)
    prepared = prepare(
        Path(cache).expanduser(),
        key,
        f"COCO {kind}",
        base,
        lambda: plan_coco(base, files, notes),
        size,
        gray,
        patches,
    )
    splits = prepared.about["splits"]
    count = (splits["train"] + splits["val"]) // (patches or 1)
    title = f"COCO {kind}" if count == OFFICIAL else f"COCO subset ({count:,} images) {kind}"
    name = f"coco{size}{'_gray' if gray else ''}{'_patches' if patches else ''}"
    return ImageSet(
        name,
        title,
        **prepared.splits,
        fingerprint=prepared.fingerprint,
        class_names=CATEGORIES,
    )


def coco_or_embedded(
    folder: str,
    cache: str,
    size: int,
    gray: bool = False,
    download: bool = False,
    crop: str = "square",
    num_patches: int = 16,
) -> ImageSet:
    """COCO if it is there, else crops of the embedded photographs, and says so.

    The choice is made once and handed to every process started from here.

    Raises:
        UserError: COCO's files are there and cannot be used.
    """
    there = is_available_or_warn(
        CHOICE,
        lambda: find_coco(Path(folder).expanduser(), download),
        "COCO is not here: using crops of a few embedded photographs.",
        f"data=auto{size}{'_gray' if gray else ''}" if crop == "square" else "data=auto_patches",
    )
    return (
        coco(folder, cache, size, gray, download, crop, num_patches)
        if there
        else embedded_photos(size, gray, len(CATEGORIES))
    )
