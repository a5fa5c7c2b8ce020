"""What a person gives to a model, images and labels of any kind, as the tensors that it takes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice, check_float
from ae_lab.data.preparation.decode import Undecodable, convert
from ae_lab.inference.photo_files import Photo, photo_from_image, read_photo

DEPTHS = (np.uint8, np.uint16)
MAX_PIXEL = 10.0  # noise may take pixels beyond 1; an image in 0..255 lies further out


def to_images(images: Any, shape: Sequence[int]) -> Tensor:
    """Images as float32 (B, C, H, W) with pixels in [0, 1]; a single one is a batch of one.

    A tensor or an array is of `shape` (C, H, W), or has its channels last, or none where C is 1; it
    is float in [0, 1] or uint8. Of a PIL image, or the file at a path, it is the central part of
    the right proportions, scaled to H×W. A list may hold any of these.

    Raises:
        UserError: it is none of these, has another shape or other pixels, or cannot be read.
    """
    if isinstance(images, list | tuple):
        if not images:
            raise UserError("there are no images: give at least one")
        return torch.cat([to_images(one, shape) for one in images])
    if isinstance(images, str | Path):
        images = _open(Path(images))
    if isinstance(images, Image.Image):
        images = _fit(images, shape)
    if isinstance(images, np.ndarray):
        images = torch.from_numpy(np.array(images))  # a copy: PIL's pixels cannot be written to
    if not isinstance(images, Tensor):
        raise UserError(
            f"images must be tensors, arrays, PIL images or paths, got {type(images).__name__}"
        )
    return _to_pixels(_channels_first(images, tuple(shape)))


def to_photo(image: Any) -> Photo:
    """A photograph of any size: of a PIL image, an array or tensor (H, W), (H, W, 1) or (H, W, 3)
    of uint8 or uint16, or the file at a path.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if isinstance(image, str | Path):
        return read_photo(Path(image))
    if isinstance(image, Image.Image):
        try:
            return photo_from_image(image.copy())
        except Undecodable as error:
            raise UserError(f"the image cannot be used: {error}") from error
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in DEPTHS:
        raise UserError(
            "a photograph is a PIL image, a path, or an array (H, W) or (H, W, 3) of uint8, got "
            f"{'×'.join(map(str, pixels.shape))} of {pixels.dtype}"
        )
    return Photo(pixels)


def to_labels(
    labels: Any, n: int, classes: int, class_names: Sequence[str] | None = None
) -> Tensor:
    """Labels as float32 (n, K): of a class by its number or name for all images, of one for each,
    or of numbers (n, K) as they are. None are zeros.

    Raises:
        UserError: there is no such class, or there are not as many labels as images.
    """
    if labels is None:
        return torch.zeros(n, classes)
    if isinstance(labels, str | int):
        labels = [labels] * n
    if isinstance(labels, np.ndarray):
        labels = torch.from_numpy(labels)
    if isinstance(labels, Tensor) and labels.ndim == 2:
        if labels.shape != (n, classes):
            raise UserError(f"labels must be {(n, classes)}, got {tuple(labels.shape)}")
        return labels.float()
    names = {name: number for number, name in enumerate(class_names or map(str, range(classes)))}
    chosen = [
        one if isinstance(one, int) and 0 <= one < classes else check_choice("label", one, names)
        for one in (labels.tolist() if isinstance(labels, Tensor) else labels)
    ]
    if len(chosen) != n:
        raise UserError(f"there are {len(chosen)} labels for {n} images: give one for each")
    return torch.nn.functional.one_hot(torch.tensor(chosen), classes).float()


def to_side(side: Any, n: int, size: Sequence[int]) -> Tensor | None:
    """What a model is told of n images: a level as (n, 1, 1, 1), or masks (n, 1, H, W), which are 1
    where something is missing. Masks are of any kind that `to_images` takes, one for all images or
    one for each.

    Raises:
        UserError: it is neither, or there are not as many masks as images.
    """
    if side is None:
        return None
    if isinstance(side, int | float):
        return torch.full((n, 1, 1, 1), check_float("side", side))
    masks = to_images(side, (1, *size)).round()
    if len(masks) not in (1, n):
        raise UserError(f"there are {len(masks)} sides for {n} images: give one for each")
    return masks.expand(n, -1, -1, -1)


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        why = getattr(error, "strerror", None) or "it holds no image"
        raise UserError(f"{path} cannot be read: {why}") from error


def _fit(image: Image.Image, shape: Sequence[int]) -> np.ndarray:
    channels, height, width = shape
    try:
        upright = convert(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    except Undecodable as error:
        raise UserError(f"the image cannot be used: {error}") from error
    return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS))


def _channels_first(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    channels, *size = shape
    if images.ndim in (3, 4) and images.shape[-3:] == shape:
        return images.reshape(-1, *shape)
    if images.ndim in (3, 4) and images.shape[-3:] == (*size, channels):
        return images.movedim(-1, -3).reshape(-1, *shape)
    if channels == 1 and images.ndim in (2, 3) and list(images.shape[-2:]) == size:
        return images.reshape(-1, *shape)
    wanted = "×".join(map(str, shape))
    raise UserError(
        f"the model takes images of {wanted} (channels, height, width), got "
        f"{'×'.join(map(str, images.shape)) or 'a number'}: PIL images and paths are scaled"
    )


def _to_pixels(images: Tensor) -> Tensor:
    if images.dtype == torch.uint8:
        return images / 255
    if not images.is_floating_point() and images.dtype != torch.bool:
        raise UserError(f"pixels must be float in [0, 1] or uint8, got {images.dtype}")
    images = images.float()
    largest = images.abs().max() if images.numel() else torch.tensor(0.0)
    if not largest <= MAX_PIXEL:  # also where it is not a number
        raise UserError(
            f"pixels must lie in [0, 1], got up to {largest:g}: divide by 255, or give uint8"
        )
    return images
