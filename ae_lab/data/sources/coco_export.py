"""A data set as Roboflow exports it in COCO's format: a folder for each split, with its images and
their annotations side by side."""

from collections.abc import Collection
from pathlib import Path

import torch

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listings, Plan, prepare
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.coco_annotations import Annotations, Part
from ae_lab.data.sources.folder import describe_images
from ae_lab.data.sources.mnist import SPLIT_SEED

FOLDERS = {"train": "train", "val": "valid", "test": "test"}
FILE = "_annotations.coco.json"


def find_export(folder: Path) -> Path | None:
    """Such an export in a folder's coco/, unless COCO itself is there, or else in the folder."""
    if (folder / "coco" / "annotations").is_dir():
        return None
    places = (folder / "coco", folder)
    return next((base for base in places if (base / "train" / FILE).is_file()), None)


def read_export(
    base: Path, cache: Path, size: int, gray: bool, patches: int | None = None
) -> ImageSet:
    """The export as squares of `size` pixels, or so many patches of each image, in its own splits,
    labelled with its own categories.

    Raises:
        UserError: a split is missing, or the annotations are not COCO's or differ in categories.
    """
    files = [base / folder / FILE for folder in FOLDERS.values()]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise UserError(
            f"{base} is an export with train/{FILE}, but there is no {' and no '.join(missing)}: "
            "export it with three splits"
        )
    annotations = {split: Annotations(file) for split, file in zip(FOLDERS, files, strict=True)}
    categories = annotations["train"].categories
    if any(one.categories != categories for one in annotations.values()):
        raise UserError(f"the splits of {base} have different categories: export them together")
    scans = {split: scan(base / folder) for split, folder in FOLDERS.items()}
    read = {
        f"{FOLDERS[s]}/{name}": found.files[name]
        for s, found in scans.items()
        for name in found.files
    }

    def plan() -> Plan:
        parts = {
            split: Part(base, folder, annotations[split], scans[split].files.keys() - {FILE})
            for split, folder in FOLDERS.items()
        }

        def split(usable: Collection[str]) -> Listings:
            usable = set(usable)
            return {
                name: part.listing([id for id in shuffle(part, name) if part.files[id] in usable])
                for name, part in parts.items()
            }

        names = [name for part in parts.values() for name in part.files.values()]
        return Plan(names, split, [line for part in parts.values() for line in part.notes])

    kind = describe_images(size, gray, patches)
    cut = {"patches": patches} if patches else {}
    key = source_key(read, data="export", size=size, gray=gray, **cut)
    name = base.resolve().name
    prepared = prepare(cache, key, f"{name} {kind}", base, plan, size, gray, patches)
    count = sum(prepared.about["splits"].values()) // (patches or 1)
    title = f"{name} ({count:,} images, {len(categories):,} classes) {kind}"
    classes = tuple(known or str(id) for id, known in categories.items())
    return ImageSet(
        name,
        title,
        **prepared.splits,
        fingerprint=prepared.fingerprint,
        class_names=classes,
    )


def shuffle(part: Part, split: str) -> list[int]:
    """The ids of a split's images in a fixed order, of which the first n are a random sample."""
    ids = sorted(part.files)
    order = torch.randperm(len(ids), generator=generator(SPLIT_SEED, "export", split))
    return [ids[place] for place in order.tolist()]
