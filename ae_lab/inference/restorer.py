"""A photograph of any size, kind and depth through a model, and back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator
from ae_lab.data import Corruption
from ae_lab.data.corruptions.corruption import is_map
from ae_lab.data.corruptions.filling import fill_smoothly
from ae_lab.inference.inputs import to_side
from ae_lab.inference.photo_files import Photo
from ae_lab.inference.tiling import Box, TiledModel, crop_side, restore_tiles
from ae_lab.models import Autoencoder
from ae_lab.models.conditioning import check_told, label_settings
from ae_lab.training.metrics import image_metrics

Advance = Callable[[float], None]
SSIM_SIDE = 11  # pixels of its window


@dataclass
class Restored:
    """A restored photo, what the model was given, and what to say of it."""

    photo: Photo
    given: Photo
    notes: list[str]


class Restorer:
    """A model as a person wants it on photographs; `name` is what errors call it.

    With a `noise` photographs are corrupted first, and the result compared with them. `side` is
    what the model is told of a corruption: a level, or a photo that is white where something is
    missing. `tile` and `self_ensemble` are those of `TiledModel`.

    Raises:
        UserError: the model takes labels, or is told of a corruption and nobody says what.
    """

    def __init__(
        self,
        model: Autoencoder,
        name: str,
        noise: Corruption | None = None,
        side: float | Photo | None = None,
        tile: int = 768,
        seed: int = 0,
        self_ensemble: bool = False,
    ):
        self.model, self.noise, self.side = model, noise, side
        self.tiled = TiledModel(model, tile, self_ensemble)
        self.seed = check_int("seed", seed, minimum=0)
        if takes := label_settings(model):
            raise UserError(f"{name} takes labels ({takes[0]}), which photographs do not have")
        if noise is None or side is not None:
            check_told(model, name, side)

    def restore(self, photo: Photo, advance: Advance = lambda share: None) -> Restored:
        """A photo restored. The noise that is added depends on the seed and the photo's name.

        Raises:
            UserError: the model takes images of another size alone, or the side is of another.
        """
        height, width, channels = photo.pixels.shape
        self.tiled.check_size(height, width)
        notes = [f"{width}×{height}", *photo.notes]
        if channels != self.model.shape[0]:
            notes.append(
                "each colour by a gray model"
                if self.model.shape[0] == 1
                else "gray by a model of colour, the mean of its channels"
            )
        corrupted, side = self.corrupt(photo)
        restored = np.empty_like(photo.pixels)

        def read(box: Box) -> tuple[Tensor, Tensor | None]:
            tile = to_tensor(photo.pixels[box]) if corrupted is None else corrupted[..., *box]
            return self.to_model(tile, crop_side(side, box))

        def write(box: Box, tile: Tensor) -> None:
            restored[box] = to_pixels(self.from_model(tile, channels), restored.dtype)

        restore_tiles(self.tiled, (height, width), read, write, advance)
        given = photo
        if self.noise is not None:
            notes += [describe_gain(to_tensor(photo.pixels), corrupted, to_tensor(restored))]
            given = Photo(to_pixels(corrupted, restored.dtype), photo.alpha, photo.metadata)
        return Restored(Photo(restored, photo.alpha, photo.metadata), given, notes)

    def corrupt(self, photo: Photo) -> tuple[Tensor | None, Tensor | None]:
        """What the model is given in place of the photograph, if anything, and the side that it is
        told: the photograph corrupted, or without what its owner says is missing."""
        if self.noise is not None:
            rng = generator(self.seed, "restore", photo.name)
            return self.noise(to_tensor(photo.pixels), rng)
        side = self.read_side(photo.pixels.shape[:2])
        if is_map(side):
            return fill_smoothly(to_tensor(photo.pixels), side), side
        return None, side

    def read_side(self, size: tuple[int, ...]) -> Tensor | None:
        """The side that a person gives, (1, 1, 1, 1) or (1, 1, H, W).

        Raises:
            UserError: it is no level, and no image of the photograph's size.
        """
        if not isinstance(self.side, Photo):
            return to_side(self.side, 1, size)
        height, width = self.side.pixels.shape[:2]
        if (height, width) != size:
            raise UserError(
                f"side={self.side.name} is {width}×{height}, the photograph {size[1]}×{size[0]}: "
                "give both the same size"
            )
        return to_tensor(self.side.pixels).mean(1, keepdim=True).round()

    def to_model(self, tile: Tensor, side: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Pixels (1, C, h, w) with the channels of the model: each colour as an image of its own
        for a gray model, gray three times for one of colour."""
        if tile.shape[1] == self.model.shape[0]:
            return tile, side
        if tile.shape[1] > 1:
            tile = tile.transpose(0, 1)
            return tile, side if side is None else side.expand(len(tile), -1, -1, -1)
        return tile.expand(-1, self.model.shape[0], -1, -1), side

    def from_model(self, tile: Tensor, channels: int) -> Tensor:
        """What the model makes of `to_model`, with the photograph's channels again."""
        if len(tile) > 1:
            return tile.transpose(0, 1)
        return tile if tile.shape[1] == channels else tile.mean(1, keepdim=True)


def to_tensor(pixels: np.ndarray) -> Tensor:
    """Pixels (H, W, C), uint8 or uint16 → (1, C, H, W) in [0, 1]."""
    values = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    return values / np.iinfo(pixels.dtype).max


def to_pixels(values: Tensor, dtype: np.dtype) -> np.ndarray:
    """(1, C, H, W) in [0, 1] → pixels (H, W, C), uint8 or uint16."""
    white = np.iinfo(dtype).max
    pixels = values[0].clamp(0, 1).mul(white).round()
    return pixels.permute(1, 2, 0).numpy().astype(dtype)


def describe_gain(clean: Tensor, corrupted: Tensor, restored: Tensor) -> str:
    """PSNR and SSIM before and after."""
    if min(clean.shape[2:]) < SSIM_SIDE:
        return "too small for SSIM"
    before, after = (image_metrics(image, clean) for image in (corrupted, restored))
    numbers = [(float(one["psnr"]), float(one["ssim"])) for one in (before, after)]
    (psnr, ssim), (better, closer) = numbers
    return f"PSNR {psnr:.2f} → {better:.2f} dB, SSIM {ssim:.3f} → {closer:.3f}"
