"""A folder of images of any size, nested or not: `data=folder data.source.path=/some/folder`."""

from collections.abc import Collection
from contextlib import suppress
from functools import cache as remembered
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listing, Listings, Plan, prepare
from ae_lab.data.preparation.files import count_kinds, scan, source_key
from ae_lab.data.sources.mnist import SPLIT_SEED
from ae_lab.data.sources.native import whole_images

HELD_OUT = 0.05  # for validation, and as much for the test
CROPS = ("square", "patches", "none")
LEAST = 3  # images: one for each split
HEIC = {".heic", ".heif", ".hif"}
NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}  # which Pillow knows as formats
RULE = "data.source.labels=folders makes classes of the sub-folders directly under data.source.path"


@remembered
def image_folder(
    path: str | None,
    cache: str,
    size: int = 64,
    labels: str | None = None,
    gray: bool = False,
    crop: str = "square",
    num_patches: int = 16,
) -> ImageSet:
    """The images under a folder as squares of `size` pixels, made once and kept in `cache`.

    `crop` says what of an image: its central `square`, or `patches`, so many of each image, of the
    pixels as they are and at smaller scales; the patches of an image are in the same split. With
    `none` each image is as it is, of its own size: for evaluation, by all of them.

    They are RGB, or luma (Pillow's "L") if `gray`. With `labels="folders"` the sub-folders directly
    under `path` are the classes, in the order of their names, and labels are one-hot. Without
    labels the only class is zero throughout. Which images are for validation and test is fixed by
    the names of those that can be used.

    Raises:
        UserError: no path is given, there is no such folder, it has too few images, or its
            sub-folders are no classes.
    """
    check_int("data.source.size", size)
    patches = count_patches(crop, num_patches)
    if labels is not None:
        check_choice("data.source.labels", labels, {"folders": None})
    root = find_folder(path)
    files, notes = find_images(root)
    classes = find_classes(root, list(files)) if labels else []
    if crop == "none":
        names = sorted(files)
        labels = torch.from_numpy(label_files(names, classes))
        return whole_images(root, names, labels, tuple(classes), gray)
    kind = describe_images(size, gray, patches)
    # What is not set stays out of the key: folders prepared before these settings keep theirs.
    settings = {"labels": labels, "gray": gray, "patches": patches}
    settings = {name: value for name, value in settings.items() if value}
    prepared = prepare(
        Path(cache).expanduser(),
        source_key(files, data="folder", size=size, **settings),
        f"{root.name} {kind}",
        root,
        lambda: plan_splits(sorted(files), classes, notes),
        size,
        gray,
        patches,
    )
    counts = [f"{sum(prepared.about['splits'].values()) // (patches or 1):,} images"]
    counts += [f"{len(classes):,} classes"] if classes else []
    title = f"{root.name} ({', '.join(counts)}) {kind}"
    return ImageSet(
        root.name,
        title,
        **prepared.splits,
        fingerprint=prepared.fingerprint,
        class_names=tuple(classes),
    )


def count_patches(crop: str, num_patches: int) -> int | None:
    """How many patches are cut of an image; None where its central square is taken.

    Raises:
        UserError: there is no such crop, or no patch.
    """
    check_int("data.source.num_patches", num_patches)
    check_choice("data.source.crop", crop, dict.fromkeys(CROPS))
    return num_patches if crop == "patches" else None


def describe_images(size: int, gray: bool, patches: int | None) -> str:
    """What images are made into, in words."""
    each = f", {patches} patches an image" if patches else ""
    return f"{size}×{size}{' gray' if gray else ''}{each}"


def find_folder(path: str | None) -> Path:
    """The folder that a person names.

    Raises:
        UserError: none is named, or there is no such folder.
    """
    if not path:
        raise UserError("data=folder needs a folder of images: data.source.path=/some/folder")
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.source.path={path} is not a folder")
    return root


def find_images(root: Path) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The files under a folder that are named as images, as `scan` has them, and a line on each
    thing that is left out.

    Raises:
        UserError: they are too few.
    """
    found = scan(root)
    kinds = readable_suffixes()
    files = {n: status for n, status in found.files.items() if Path(n).suffix.lower() in kinds}
    others, notes = found.files.keys() - files.keys(), found.notes
    if others:
        notes.append(
            f"{len(others):,} files are not named as images: {count_kinds(sorted(others))}"
        )
    if any(Path(name).suffix.lower() in HEIC for name in others):
        notes.append("`pip install pillow-heif` makes HEIC readable")
    if len(files) < LEAST:
        raise UserError(
            f"{root} has {len(files)} images (files named .jpg, .png, ...), below {LEAST}: "
            f"{'; '.join(['each split needs one', *notes])}"
        )
    return files, notes


def readable_suffixes() -> set[str]:
    """Of files that Pillow reads as images; HEIC too if pillow-heif is installed."""
    Image.init()  # Pillow then knows all its formats
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    registered = Image.registered_extensions().items()
    return {suffix for suffix, kind in registered if kind in Image.OPEN and kind not in NO_IMAGES}


def class_of(name: str) -> str:
    """The sub-folder directly under the root in which a file lies; empty where it is in none.

    >>> class_of("cat/indoors/1.png"), class_of("1.png")
    ('cat', '')
    """
    return name.partition("/")[0] if "/" in name else ""


def find_classes(root: Path, names: list[str]) -> list[str]:
    """The sub-folders directly under `root` that hold the files `names`, sorted.

    Raises:
        UserError: files lie in none of them, they are fewer than two, or none has an image for
            each split.
    """
    members = group_by_class(names)
    if outside := members.get(""):
        raise UserError(
            f"{root} has {len(outside):,} images outside of its sub-folders, e.g. {min(outside)}: "
            f"{RULE}, so move each image into that of its class"
        )
    if len(members) < 2:
        raise UserError(
            f"{root} has images in one sub-folder only, {min(members)}: {RULE}, and needs two"
        )
    if max(map(len, members.values())) < LEAST:
        raise UserError(
            f"no sub-folder of {root} has {LEAST} images, one for each split: add some, or leave "
            "out data.source.labels"
        )
    return sorted(members)


def find_small_classes(names: list[str], classes: list[str]) -> list[str]:
    """A line on classes with too few images for each split to have one, if there are any."""
    members = group_by_class(names)
    small = [name for name in classes if len(members[name]) < LEAST]
    what = f"classes have fewer than {LEAST} images, which are all for training"
    return [f"{len(small):,} {what}, e.g. {small[0]}"] if small else []


def group_by_class(names: list[str]) -> dict[str, list[str]]:
    """Files by the sub-folder they lie in, in their order."""
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(class_of(name), []).append(name)
    return members


def plan_splits(names: list[str], classes: list[str], notes: list[str]) -> Plan:
    """How a folder's files are prepared: one permutation of the sorted names gives the order, and
    those that can be used are split in it."""
    order = torch.randperm(len(names), generator=generator(SPLIT_SEED, "folder")).tolist()
    shuffled = [names[place] for place in order]

    def split(usable: Collection[str]) -> Listings:
        usable = set(usable)
        return split_files([name for name in shuffled if name in usable], classes)

    return Plan(names, split, [*notes, *find_small_classes(names, classes)])


def split_files(shuffled: list[str], classes: list[str]) -> Listings:
    """A folder's files split 90 / 5 / 5 %, each class for itself if there are any.

    The first files of a class are for validation, the next ones for the test, at least one of each
    where three are there. Within a split files keep their order, so that the first n of them are a
    random sample.
    """
    groups = group_by_class(shuffled).values() if classes else [shuffled]
    split_of = {}
    for members in groups:
        held = max(0, min(max(1, round(HELD_OUT * len(members))), (len(members) - 1) // 2))
        split_of |= dict.fromkeys(members, "train")
        split_of |= dict.fromkeys(members[:held], "val")
        split_of |= dict.fromkeys(members[held : 2 * held], "test")
    files = {
        split: [name for name in shuffled if split_of[name] == split]
        for split in ("train", "val", "test")
    }
    return {split: Listing(part, label_files(part, classes)) for split, part in files.items()}


def label_files(names: list[str], classes: list[str]) -> np.ndarray:
    """Labels (N, K) of files, uint8, one-hot; zeros (N, 1) if there are no classes."""
    labels = np.zeros((len(names), max(1, len(classes))), np.uint8)
    if classes:
        column = {name: number for number, name in enumerate(classes)}
        labels[np.arange(len(names)), [column[class_of(name)] for name in names]] = 1
    return labels
