"""Images of a folder as they are, each of its own size: for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.data.images import ImageSet, Split
from ae_lab.data.preparation.decode import Undecodable, decode

LEAST_SIDE = 11  # pixels: the window of SSIM


class ImageFiles(Sequence):
    """Image files as a sequence of uint8 (C, H, W), each decoded when it is asked for."""

    def __init__(self, paths: list[Path], gray: bool):
        self.paths, self.gray = paths, gray

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int | slice) -> Tensor | ImageFiles:
        if isinstance(place, slice):
            return ImageFiles(self.paths[place], self.gray)
        return torch.from_numpy(decode(self.paths[place], None, self.gray).copy())


def whole_images(
    root: Path, names: list[str], labels: Tensor, class_names: tuple[str, ...], gray: bool
) -> ImageSet:
    """The files of a folder as they are, in the order of their names, with labels uint8 (N, K).

    Nothing is learnt from them, so all of them are in each of the three splits. What cannot be used
    is left out, and said.

    Raises:
        UserError: none can be used.
    """
    usable, left_out = [], {}
    digest = blake2b(str(gray).encode(), digest_size=8)
    for place, name in enumerate(names):
        try:
            if min(decode(root / name, None, gray).shape[1:]) < LEAST_SIDE:
                raise Undecodable(f"smaller than {LEAST_SIDE} pixels")
        except Undecodable as error:
            left_out[name] = str(error)
            continue
        usable.append(place)
        digest.update((root / name).read_bytes())
    if left_out:
        example, why = next(iter(left_out.items()))
        print(f"{len(left_out):,} files cannot be used and are left out, e.g. {example} ({why})")
    if not usable:
        raise UserError(f"none of the {len(names):,} images of {root} can be used")
    files = ImageFiles([root / names[place] for place in usable], gray)
    title = f"{root.name} ({len(files):,} images) at their own size{' gray' if gray else ''}"
    splits = dict.fromkeys(("train", "val", "test"), Split(files, labels[usable]))
    about = {"fingerprint": digest.hexdigest(), "class_names": class_names}
    return ImageSet(root.name, title, **splits, **about)
