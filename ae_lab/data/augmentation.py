"""What images are shown as, anew each time: moved, mirrored, turned, drawn black and white."""

import torch
from torch import Tensor


def binarize_pixels(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel 1 with the probability that is its gray level, else 0."""
    return torch.bernoulli(clean, generator=generator)


def shift_images(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each moved by up to `max_shift` pixels along an axis; zeros move in."""
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(
        2 * max_shift + 1, (2, count, 1), generator=generator, device=device
    ).unbind()
    rows = torch.arange(height, device=device) + down
    columns = torch.arange(width, device=device) + right
    wide = torch.nn.functional.pad(images, [max_shift] * 4).permute(0, 2, 3, 1)
    image = torch.arange(count, device=device)[:, None, None]
    return wide[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """About half of the images (B, C, H, W) mirrored left to right."""
    u = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    return torch.where(u < 0.5, images.flip(3), images)


def turn_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """Squares (B, C, H, H), each turned by 0, 90, 180 or 270 degrees."""
    turns = torch.randint(4, (len(images), 1, 1, 1), generator=generator, device=images.device)
    turned = torch.where(turns % 2 == 1, images.rot90(1, (2, 3)), images)
    return torch.where(turns >= 2, turned.flip(2, 3), turned)
