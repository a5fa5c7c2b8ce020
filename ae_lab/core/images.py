"""Images as pictures: side by side, enlarged, as files and inside of pages."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ae_lab.core.files import replace_atomically

if TYPE_CHECKING:
    from PIL import Image

ENLARGED = 3  # times, so that single pixels can be seen


def tile_rows(*rows):
    """Images (n, C, H, W) per row → one image (C, rows·H, n·W) in [0, 1]."""
    import torch

    pixels = [row.detach().float().cpu().nan_to_num().clamp(0, 1) for row in rows]
    return torch.cat([torch.cat(list(row), dim=2) for row in pixels], dim=1)


def to_picture(image) -> Image.Image:
    """An image (C, H, W) in [0, 1] as Pillow's."""
    from PIL import Image

    values = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    return Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)


def enlarge(picture: Image.Image, times: int) -> Image.Image:
    """A picture whose single pixels are squares of `times` pixels a side."""
    from PIL import Image

    return picture.resize([side * times for side in picture.size], Image.Resampling.NEAREST)


def to_address(picture: Image.Image, kind: str, **options: object) -> str:
    """A picture as an address that holds it, for pages of one file."""
    content = BytesIO()
    picture.save(content, kind, **options)
    return f"data:image/{kind};base64,{b64encode(content.getvalue()).decode()}"


def save_png(image, file: Path) -> Path:
    """Write an image (C, H, W) in [0, 1] as PNG, enlarged."""
    picture = enlarge(to_picture(image), ENLARGED)
    with replace_atomically(file) as beside:
        picture.save(beside, format="png")
    return file
