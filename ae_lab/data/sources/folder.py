"""A folder of images of any size, nested or not: `data=folder data.source.path=/some/folder`."""

from functools import cache as remembered
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet
from ae_lab.data.preparation.cache import Listing, prepare
from ae_lab.data.preparation.files import scan, source_key
from ae_lab.data.sources.mnist import SPLIT_SEED

HELD_OUT = 0.05  # for validation, and as much for the test
LEAST = 3  # images: one for each split


def split_files(names: list[str]) -> dict[str, Listing]:
    """A folder's files split 90 / 5 / 5 %, by one permutation of the sorted names."""
    order = torch.randperm(len(names), generator=generator(SPLIT_SEED, "folder")).tolist()
    held = max(1, round(HELD_OUT * len(names)))
    parts = {"train": order[2 * held :], "val": order[:held], "test": order[held : 2 * held]}
    return {
        part: Listing([names[place] for place in places], np.zeros((len(places), 1), np.uint8))
        for part, places in parts.items()
    }


@remembered
def image_folder(path: str | None, cache: str, size: int = 64) -> ImageSet:
    """The images under a folder as RGB squares of `size` pixels, made once and kept in `cache`.

    Which of them are for validation and test is fixed by their names. There are no labels: the
    only class is zero throughout.

    Raises:
        UserError: no path is given, there is no such folder, or it has too few images.
    """
    if not path:
        raise UserError("data=folder needs a folder of images: data.source.path=/some/folder")
    check_int("data.source.size", size)
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.source.path={path} is not a folder")
    Image.init()  # Pillow then knows all its formats
    kinds = Image.registered_extensions()
    files = {
        name: status for name, status in scan(root).items() if Path(name).suffix.lower() in kinds
    }
    if len(files) < LEAST:
        raise UserError(
            f"{root} has {len(files)} images (files named .jpg, .png, ...), below {LEAST}: "
            "each split needs one"
        )
    kind = f"{size}×{size}"
    prepared = prepare(
        Path(cache).expanduser(),
        source_key(files, data="folder", size=size),
        f"{root.name} {kind}",
        root,
        lambda: (split_files(sorted(files)), []),
        size,
    )
    title = f"{root.name} ({sum(prepared.about['splits'].values()):,} images) {kind}"
    return ImageSet(root.name, title, **prepared.splits, fingerprint=prepared.fingerprint)
