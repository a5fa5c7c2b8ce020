"""Images of a model as pictures that a page shows."""

from collections.abc import Callable
from functools import wraps

import torch
from PIL import Image
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.core.images import enlarge, tile_rows, to_picture

LEAST_SIDE = 256  # pixels: what is smaller is enlarged, so that single pixels can be seen


def to_visible(image: Tensor) -> Image.Image:
    """An image (C, H, W) in [0, 1]."""
    return make_visible(to_picture(image.clamp(0, 1)))


def make_visible(picture: Image.Image) -> Image.Image:
    """A picture, enlarged where it is small."""
    return enlarge(picture, -(-LEAST_SIDE // min(picture.size)))


def to_grid(images: Tensor) -> Image.Image:
    """Images (n, C, H, W), row by row in a square."""
    columns = max(1, round(len(images) ** 0.5))
    missing = -len(images) % columns
    padded = torch.cat([images, torch.ones_like(images[:1]).expand(missing, -1, -1, -1)])
    return to_visible(tile_rows(*padded.split(columns)))


def show_errors(function: Callable) -> Callable:
    """Decorates what a page calls: a mistake is one line on the page."""
    import gradio

    @wraps(function)
    def shown(*arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    return shown
