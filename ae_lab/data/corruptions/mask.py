"""Parts of an image that are missing, to be painted in."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from ae_lab.core.errors import check_choice, check_float
from ae_lab.data.corruptions.corruption import Corruption, Level
from ae_lab.data.corruptions.filling import fill_smoothly

NUM_STROKES = 4


def uniform(x: Tensor, generator: Generator, *shape: int) -> Tensor:
    """Numbers from [0, 1), (B, *shape), for the images x."""
    return torch.rand(len(x), *shape, generator=generator, device=x.device)


def coordinates(x: Tensor) -> tuple[Tensor, Tensor]:
    """The centres of rows (H, 1) and of columns (W), from 0 to the image's sides."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device)[:, None] + 0.5
    return rows, torch.arange(width, device=x.device) + 0.5


def box(x: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """A rectangle of the image's proportions, anywhere inside of it.

    Source: Pathak et al., "Context encoders", CVPR 2016.
    """
    inside = torch.ones((), dtype=torch.bool, device=x.device)
    for centres, side in zip(coordinates(x), x.shape[2:], strict=True):
        length = (share.sqrt() * side).round()
        start = (uniform(x, generator, 1, 1, 1) * (side - length + 1)).floor()
        inside = inside & (centres > start) & (centres < start + length)
    return inside


def half(x: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """All of the image on one of its four sides: half of it with a share of 0.5."""
    side = (uniform(x, generator, 1, 1, 1) * 4).floor()
    rows, columns = (c / s for c, s in zip(coordinates(x), x.shape[2:], strict=True))
    along = torch.where(side < 2, rows, columns)
    return torch.where(side % 2 == 0, along < share, along > 1 - share)


def pixels(x: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """Each pixel by itself, with the share as its probability."""
    return uniform(x, generator, 1, *x.shape[2:]) < share


def strokes(x: Tensor, share: Tensor, generator: Generator) -> Tensor:
    """What lies nearest to four random line segments, as brush strokes are, all of one width.

    Source: in the manner of Liu et al., "Image inpainting for irregular holes", ECCV 2018.
    """
    rows, columns = coordinates(x)
    sides = torch.tensor(x.shape[2:], device=x.device)
    ends = uniform(x, generator, NUM_STROKES, 2, 2) * sides  # of each stroke, (row, column)
    nearest = torch.full((), torch.inf, device=x.device)
    for stroke in ends[..., None, None, None].unbind(1):
        (row, column), (down, right) = stroke[:, 0].unbind(1), stroke.diff(dim=1)[:, 0].unbind(1)
        below, beside = rows - row, columns - column  # of the stroke's first end
        length = (down.square() + right.square()).clamp_min(1e-6)
        along = ((below * down + beside * right) / length).clamp(0, 1)
        distance = (below - along * down).square() + (beside - along * right).square()
        nearest = torch.minimum(nearest, distance)
    flat = nearest.flatten(1)
    count = (share.flatten(1) * flat.shape[1]).round().long()
    limit = flat.sort(1).values.gather(1, (count - 1).clamp_min(0))[:, :, None, None]
    return (nearest <= limit) & (count > 0)[:, :, None, None]


KINDS = {"box": box, "half": half, "pixels": pixels, "strokes": strokes}
SMOOTH = "smooth"


class Mask(Corruption):
    r"""A part of the image is missing.

    corrupted = x·(1 - m) + fill·m, m = 1 where a pixel is missing, in all its channels, else 0.
    With fill="smooth" missing pixels are interpolated from the others: see `fill_smoothly`.
    `share` of the image is missing: exactly, but for rounding to pixels, and of `pixels` on
    average. The side is m.

    Source: Bertalmio et al., "Image inpainting", SIGGRAPH 2000.

    Raises:
        UserError: an unknown kind, or a share or a fill outside [0, 1].

    >>> corrupted, side = Mask("box", 0.25)(torch.ones(1, 3, 8, 8), torch.Generator())
    >>> float(side.mean()), float(corrupted.mean())
    (0.25, 0.875)
    """

    tells = True

    def __init__(
        self,
        kind: str,
        share: float | Sequence[float],
        fill: float | Literal["smooth"] = 0.5,
        clip: bool = True,
    ):
        super().__init__(clip)
        self.find_missing = check_choice("noise.kind", kind, KINDS)
        self.share = Level("noise.share", share, high=1.0)
        self.fill = fill if fill == SMOOTH else check_float("noise.fill", fill, high=1.0)

    def corrupt(self, x, generator):
        share = torch.as_tensor(self.share.draw(x, generator), dtype=x.dtype, device=x.device)
        missing = self.find_missing(x, share.expand(len(x), 1, 1, 1), generator)
        if self.fill == SMOOTH:
            return fill_smoothly(x, missing), missing.to(x.dtype)
        return x.masked_fill(missing, self.fill), missing.to(x.dtype)
