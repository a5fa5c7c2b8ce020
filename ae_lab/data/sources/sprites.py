"""sprites: three shapes at every size, angle and place. Their factors of variation are known.

They are drawn here after the model of dSprites, and are not the images of that file: sizes, angles
and places differ. Source: Matthey, Higgins, Hassabis & Lerchner, 2017,
github.com/google-deepmind/dsprites-dataset.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from math import cos, pi, prod, sin, sqrt

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator
from ae_lab.data.images import ImageSet, Split
from ae_lab.data.sources.mnist import SPLIT_SEED

SIZE = 64
MARGIN = 16  # pixels from the border to the nearest centre; the largest shape reaches 15.7
SIDE = 19.6  # pixels: the square root of the area of each shape at the largest scale
SMALLEST = 0.5  # the smallest scale; the largest is 1
SAMPLES = 8  # along each axis of a pixel, whose share inside the shape is its gray level
HELD_OUT = 0.1  # of the images for validation, and as many for the test
HEART_AREA = 4 + pi
HEART_CENTRE = (pi + 4 / 3) / sqrt(2) / HEART_AREA  # of mass, above that of its square


def is_in_square(right: Tensor, down: Tensor) -> Tensor:
    """A square of area 1."""
    return (right.abs() <= 0.5) & (down.abs() <= 0.5)


def is_in_ellipse(right: Tensor, down: Tensor) -> Tensor:
    """An ellipse of area 1, twice as wide as high: half axes a, b with π a b = 1, a = 2 b."""
    return (right / 2).square() + down.square() <= 1 / (2 * pi)


def is_in_heart(right: Tensor, down: Tensor) -> Tensor:
    """A heart of area 1 about its centre of mass: a square that stands on a corner, and a disc on
    each of its upper sides."""
    right, up = right * sqrt(HEART_AREA), -down * sqrt(HEART_AREA) + HEART_CENTRE
    first, second = (up + right) / sqrt(2), (up - right) / sqrt(2)
    in_square = (first.abs() <= 1) & (second.abs() <= 1)
    in_discs = [(first - 1).square() + second.square() <= 1]
    in_discs += [(second - 1).square() + first.square() <= 1]
    return in_square | in_discs[0] | in_discs[1]


# Each says which points lie inside, by their distance to the right of the centre of mass and down.
SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "square": is_in_square,
    "ellipse": is_in_ellipse,
    "heart": is_in_heart,
}


def draw_shape(shape: str, scale: float, angle: float, antialias: bool = True) -> Tensor:
    """A white shape in the middle of a black square of 2 MARGIN pixels a side, uint8 (H, W).

    `angle` is in radians, clockwise. A pixel's gray level is the share of it that lies inside, of
    8×8 points; without `antialias` it is white where that is more than half, else black.
    """
    places = (torch.arange(2 * MARGIN * SAMPLES, dtype=torch.float64) + 0.5) / SAMPLES - MARGIN
    down, right = torch.meshgrid(places / (SIDE * scale), places / (SIDE * scale), indexing="ij")
    turned_right = cos(angle) * right + sin(angle) * down
    turned_down = cos(angle) * down - sin(angle) * right
    inside = SHAPES[shape](turned_right, turned_down).double()
    share = inside.unflatten(1, (-1, SAMPLES)).unflatten(0, (-1, SAMPLES)).mean((1, 3))
    return (255 * (share if antialias else share > 0.5)).round().byte()


def move_sprites(sprites: Tensor, num_x: int, num_y: int) -> Tensor:
    """Sprites (N, 32, 32) at each of their places in an image: a view (N, num_x, num_y, 64, 64).

    Places are whole pixels apart, evenly, as far as they fit, about the middle of the image. The
    first ones are to the right and below: the view is of a window that moves over one black canvas
    for each sprite, to the right and down.
    """
    room = SIZE - 2 * MARGIN
    steps = [room // max(1, count - 1) for count in (num_x, num_y)]
    spaces = [room + (count - 1) * step for count, step in zip((num_x, num_y), steps, strict=True)]
    pads = [side for space in spaces for side in (space // 2, space - space // 2)]
    canvases = torch.nn.functional.pad(sprites, pads)
    return canvases.unfold(2, SIZE, steps[0]).unfold(1, SIZE, steps[1]).permute(0, 2, 1, 4, 3)


@lru_cache(maxsize=1)  # it is large
def sprites(
    num_scales: int = 6,
    num_rotations: int = 20,
    num_x: int = 16,
    num_y: int = 16,
    antialias: bool = True,
) -> ImageSet:
    """Every combination of five factors, white on black, uint8 (1, 64, 64): one image each.

    | factor | levels | what they are |
    |---|---|---|
    | shape | 3 | square, ellipse, heart: of equal area at equal scale, about their centre of mass |
    | scale | `num_scales` | evenly from 0.5 to 1 times a side of 19.6 pixels |
    | rotation | `num_rotations` | evenly from 0 to 2π, which is left out, clockwise |
    | x, y | `num_x`, `num_y` | evenly, whole pixels apart, from the left and from the top |

    A square that is turned by a quarter is the same image, and an ellipse by a half: codes cannot
    tell these rotations apart, and images of different splits may be equal.

    Labels are multi-hot: one-hot of each factor in this order, beside each other.
    `ImageSet.factor_levels` reads the levels back. Images are in one random order, the same for
    every seed; 80 / 10 / 10 % of them train, validate and test. The splits are views of one tensor
    of 4,096 bytes an image: 92,160 images and 377 MB as it is.

    Raises:
        UserError: a number of levels is not possible.
    """
    check_int("data.source.num_scales", num_scales)
    check_int("data.source.num_rotations", num_rotations)
    check_places("data.source.num_x", num_x)
    check_places("data.source.num_y", num_y)
    scales = torch.linspace(1, SMALLEST, num_scales).flip(0).tolist()
    angles = [2 * pi * number / num_rotations for number in range(num_rotations)]
    centred = torch.stack(
        [draw_shape(*form, antialias=antialias) for form in product(SHAPES, scales, angles)]
    )
    factors = {
        "shape": len(SHAPES),
        "scale": num_scales,
        "rotation": num_rotations,
        "x": num_x,
        "y": num_y,
    }
    order = torch.randperm(prod(factors.values()), generator=generator(SPLIT_SEED, "sprites"))
    levels = torch.unravel_index(order, tuple(factors.values()))
    form, x, y = order // (num_x * num_y), num_x - 1 - levels[3], num_y - 1 - levels[4]
    images = move_sprites(centred, num_x, num_y)[form, x, y].unsqueeze(1)
    hot = [one_hot(level, count) for level, count in zip(levels, factors.values(), strict=True)]
    labels = torch.cat([columns.byte() for columns in hot], 1)
    held = max(1, round(HELD_OUT * len(order)))
    sizes = [len(order) - 2 * held, held, held]
    splits = map(Split, images.split(sizes), labels.split(sizes))
    names = [f"{name} {level}" for name, count in factors.items() for level in range(count)]
    kind = "" if antialias else ", binary"
    title = f"sprites ({len(order):,} images{kind}; drawn here, not the file of dSprites)"
    return ImageSet(
        "sprites",
        title,
        *splits,
        class_names=(*SHAPES, *names[len(SHAPES) :]),
        factors=factors,
        files=(),
    )


def check_places(name: str, count: int) -> None:
    """Check that so many places along an axis are at least a pixel apart.

    Raises:
        UserError: they are not, or are none.
    """
    if check_int(name, count) > (most := SIZE - 2 * MARGIN + 1):
        raise UserError(f"{name} must be at most {most}, places a pixel apart, got {count}")
