"""Images as pictures: side by side, and as files."""

from pathlib import Path

from ae_lab.core.files import replace_atomically

ENLARGED = 3  # times, so that single pixels can be seen


def tile_rows(*rows):
    """Images (n, C, H, W) per row → one image (C, rows·H, n·W) in [0, 1]."""
    import torch

    pixels = [row.detach().float().cpu().nan_to_num().clamp(0, 1) for row in rows]
    return torch.cat([torch.cat(list(row), dim=2) for row in pixels], dim=1)


def save_png(image, file: Path) -> Path:
    """Write an image (C, H, W) in [0, 1] as PNG, enlarged."""
    from PIL import Image

    values = (image.permute(1, 2, 0) * 255).round().byte().numpy()
    picture = Image.fromarray(values.squeeze())
    picture = picture.resize([side * ENLARGED for side in picture.size], Image.Resampling.NEAREST)
    with replace_atomically(file) as beside:
        picture.save(beside, format="png")
    return file
