"""A network on images of any size: whole where they are small, else tile by tile.

A tile overlaps its neighbours by the network's receptive field, so that each pixel of its core is
what the whole image gives, but for rounding: there is nothing to blend. Memory depends on the tile
alone.
"""

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator
from ae_lab.data import Batch
from ae_lab.data.corruptions.corruption import is_map
from ae_lab.inference.self_ensemble import reconstruct_images
from ae_lab.models.autoencoder import Autoencoder

PROBE = 64  # pixels a side of the first image on which a receptive field is measured
WIDEST = 1024  # of the last: what reaches further is taken to reach everywhere

Box = tuple[slice, slice]  # rows and columns


class TiledModel:
    """A model, with tiles of at most `tile` pixels a side, overlaps included; `self_ensemble` as in
    `reconstruct_images`.

    Raises:
        UserError: a tile is not an integer >= 1.
    """

    def __init__(self, model: Autoencoder, tile: int = 768, self_ensemble: bool = False):
        self.model, self.tile = model, check_int("tile", tile)
        self.self_ensemble = self_ensemble

    @torch.inference_mode()
    def reconstruct(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) as the model restores them, without tiles. It may be on a device."""
        image, on = image.to(self.model.device), image.device
        label = image.new_zeros(len(image), self.model.classes)
        side = None if side is None else side.to(image.device)
        batch = Batch(image, image, label, torch.arange(len(image)), side)
        return reconstruct_images(self.model, batch, self.self_ensemble).to(on)

    @property
    def stride(self) -> int | None:
        """Pixels from one place of the coarsest map to the next; None where the model takes images
        of one size alone."""
        return self.model.stride

    @cached_property
    def radius(self) -> int | None:
        """How many pixels around one reach it at most, a multiple of the stride; None where all do.

        Measured: by which pixels have a gradient.
        """
        if getattr(self.model.encoder, "sees_all", False):
            return None
        size = max(PROBE, 4 * self.stride)
        while size <= WIDEST:
            reach = self._measure_reach(size)
            if reach < size // 2 - self.stride:
                return -(-reach // self.stride) * self.stride
            size *= 2
        return None

    def _measure_reach(self, size: int) -> int:
        """How far from the middle of a square a pixel has an influence on the middle."""
        size = -(-size // self.stride) * self.stride
        rng = generator("receptive field")
        image = torch.rand(1, self.model.shape[0], size, size, generator=rng)
        image = image.to(self.model.device).requires_grad_()
        start = size // 2 // self.stride * self.stride
        middle = slice(start, start + self.stride)  # all that one place of the coarsest map makes
        with torch.enable_grad():
            label = image.new_zeros(1, self.model.classes)
            output = self.model(Batch(image, image, label, torch.arange(1)), draw=False)
            [gradient] = torch.autograd.grad(output.raw[..., middle, middle].sum(), image)
        used = gradient[0].abs().sum(0) > 0
        places = torch.cat([used.any(0).nonzero(), used.any(1).nonzero()])
        if not len(places):
            return 0
        return max(start - int(places.min()), int(places.max()) + 1 - middle.stop, 0)

    def check_size(self, height: int, width: int) -> None:
        """Check that images of a size can be restored.

        Raises:
            UserError: the model takes another one alone.
        """
        if self.stride is None and (height, width) != self.model.shape[1:]:
            size = "×".join(map(str, self.model.shape[1:]))
            raise UserError(
                f"the run restores images of {size} alone, not {height}×{width}: train one of "
                "model=unet or cnn_skip, as preset=denoise_photo"
            )

    def plan(self, height: int, width: int) -> list[tuple[Box, Box]]:
        """What of an image is put into the network at a time, and what of it is taken: its core."""
        whole = (slice(0, height), slice(0, width))
        if max(height, width) <= self.tile or self.stride is None or self.radius is None:
            return [(whole, whole)]
        core = (self.tile - 2 * self.radius) // self.stride * self.stride
        if core < self.stride:
            least = 2 * self.radius + self.stride
            raise UserError(
                f"tile={self.tile} is too small for the network, which looks {self.radius} pixels "
                f"around: give at least {least}"
            )
        return [
            (
                tuple(
                    slice(max(0, one.start - self.radius), one.stop + self.radius) for one in box
                ),
                box,
            )
            for box in _boxes(height, width, core)
        ]


def _boxes(height: int, width: int, side: int) -> Iterator[Box]:
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield slice(top, min(top + side, height)), slice(left, min(left + side, width))


def restore_tiles(
    tiled: TiledModel,
    size: tuple[int, int],
    read: Callable[[Box], tuple[Tensor, Tensor | None]],
    write: Callable[[Box, Tensor], None],
    advance: Callable[[float], None] = lambda share: None,
) -> None:
    """Restore an image of a size (H, W) that is read and written tile by tile.

    `read` gives the pixels (1, C, h, w) of a box and the side of them, `write` takes the restored
    ones; `advance` is told the share of the image that is done with each tile.
    """
    height, width = size
    tiled.check_size(height, width)
    for outer, core in tiled.plan(height, width):
        restored = tiled.reconstruct(*read(outer))
        rows, columns = (
            slice(one.start - around.start, one.stop - around.start)
            for one, around in zip(core, outer, strict=True)
        )
        write(core, restored[..., rows, columns])
        advance((core[0].stop - core[0].start) * (core[1].stop - core[1].start) / (height * width))


def crop_side(side: Tensor | None, box: Box) -> Tensor | None:
    """What a side tells of a box."""
    return side[..., *box] if is_map(side) else side


def restore_tensor(tiled: TiledModel, image: Tensor, side: Tensor | None = None) -> Tensor:
    """An image (1, C, H, W) restored; `side` is (1, 1, H, W) or (1, 1, 1, 1)."""
    restored = torch.empty_like(image)

    def read(box: Box) -> tuple[Tensor, Tensor | None]:
        return image[..., *box], crop_side(side, box)

    def write(box: Box, pixels: Tensor) -> None:
        restored[..., *box] = pixels

    restore_tiles(tiled, tuple(image.shape[2:]), read, write)
    return restored
