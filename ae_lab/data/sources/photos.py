"""photos64: crops of the colour photographs that scikit-image and scikit-learn carry with them.

They need no download, and serve to try things on photographs. What they say of a model is little:
the training crops come from seven of them.
"""

from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet, Split
from ae_lab.data.sources.mnist import SPLIT_SEED

SIZE = 64
SHORT_SIDES = (96, 144, 216, 324, 432)  # pixels of a photograph's short side, where crops are taken
STRIDE = 24  # pixels from one crop to the next
FLATTEST = 4.0  # standard deviation of a crop, of 255: black corners and bare sky are left out
PHOTOGRAPHS = {
    "train": "astronaut china hubble_deep_field immunohistochemistry motorcycle retina rocket",
    "val": "flower",
    "test": "chelsea coffee",
}


def load_photograph(name: str) -> np.ndarray:
    """One of the photographs, uint8 (H, W, 3)."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    if name in ("china", "flower"):
        return load_sample_image(f"{name}.jpg")
    if name == "motorcycle":
        return data.stereo_motorcycle()[0]
    return getattr(data, name)()


def cut_crops(image: np.ndarray) -> np.ndarray:
    """Squares (N, 3, 64, 64) of a photograph (H, W, 3) at several scales, overlapping."""
    picture, windows_of_scales = Image.fromarray(image[..., :3]), []
    for short in SHORT_SIDES:
        scale = short / min(picture.size)
        if scale > 1:
            continue
        size = [round(scale * side) for side in picture.size]
        pixels = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (SIZE, SIZE), axis=(0, 1))
        windows_of_scales.append(windows[::STRIDE, ::STRIDE].reshape(-1, 3, SIZE, SIZE))
    squares = np.concatenate(windows_of_scales)
    return squares[squares.std((1, 2, 3)) > FLATTEST]


@cache
def embedded_photos(size: int = SIZE, gray: bool = False, classes: int = 1) -> ImageSet:
    """Some thousand crops, made smaller or gray if asked for, split by photograph: no two splits
    share one.

    There are no labels: every class is zero throughout, since the photographs of one split are not
    found in another.
    """
    splits = {}
    for split, names in PHOTOGRAPHS.items():
        images = torch.from_numpy(
            np.concatenate([cut_crops(load_photograph(n)) for n in names.split()])
        )
        order = torch.randperm(len(images), generator=generator(SPLIT_SEED, "photos64", split))
        unlabelled = torch.zeros(len(images), classes, dtype=torch.uint8)
        splits[split] = Split(resize(images[order], size, gray), unlabelled)
    kind = f"{size}{'_gray' if gray else ''}"
    return ImageSet(f"photos{kind}", f"photos{kind} (embedded crops)", **splits)


def resize(images: Tensor, size: int, gray: bool) -> Tensor:
    """Images uint8 (N, 3, 64, 64) as (N, C, size, size): averaged over areas, luma of BT.601."""
    if gray:
        luma = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
        images = (images * luma).sum(1, keepdim=True)
    if size != SIZE:
        images = torch.nn.functional.interpolate(images.float(), (size, size), mode="area")
    return images.round().byte() if images.is_floating_point() else images


def photos64() -> ImageSet:
    """The crops as they are, 64×64 pixels, RGB."""
    return embedded_photos()
