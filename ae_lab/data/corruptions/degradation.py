"""What optics, scaling and compression do to an image."""

import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data.corruptions.corruption import Corruption, Level, level_side
from ae_lab.data.corruptions.noise import normal_like

TRUNCATE = 4.0  # standard deviations of a Gaussian kernel on either side
FILTERS = ("bicubic", "area")


def resize_bicubic(x: Tensor, size: Sequence[int]) -> Tensor:
    """Images (B, C, H, W) at another size, by Keys' cubic of a = -1/2, stretched where it shrinks.

    Source: Keys, IEEE Trans. ASSP 29 (1981) 1153. It is Pillow's BICUBIC.
    """
    return F.interpolate(x, tuple(size), mode="bicubic", antialias=True)


class Downsampling(Corruption):
    r"""The image made smaller by a factor and brought back to its size by bicubic interpolation.

    corrupted = bicubic(shrink(x, ⌈H / factor⌉ × ⌈W / factor⌉), H × W)

    `method` is what shrinks: `bicubic`, as the literature on super-resolution has it, or `area`,
    the mean of each factor × factor square, as larger pixels of a sensor would see it. Of several
    factors each image gets one, each as likely. The side is 1 - 1 / factor.

    Source: Dong et al., "Image super-resolution using deep convolutional networks", IEEE TPAMI 38
    (2016) 295.

    Raises:
        UserError: a factor is not an integer >= 2, or the method is not known.

    >>> x = torch.full((1, 1, 16, 16), 0.5)
    >>> corrupted, side = Downsampling(2)(x, torch.Generator())
    >>> bool(torch.allclose(corrupted, x)), float(side)
    (True, 0.5)
    """

    tells = True

    def __init__(self, factor: int | Sequence[int], method: str = "bicubic", clip: bool = True):
        super().__init__(clip)
        factors = factor if isinstance(factor, Sequence) else [factor]
        if not factors:
            raise UserError("noise.factor must be an integer or a list of some, got []")
        self.factors = [check_int("noise.factor", one, minimum=2) for one in factors]
        check_choice("noise.method", method, dict.fromkeys(FILTERS))
        self.shrink = F.adaptive_avg_pool2d if method == "area" else resize_bicubic

    def resample(self, x: Tensor, factor: int) -> Tensor:
        """Images smaller by a factor, and back."""
        small = self.shrink(x, [-(-side // factor) for side in x.shape[2:]])
        return resize_bicubic(small, x.shape[2:])

    def corrupt(self, x, generator):
        if len(self.factors) == 1:
            [factor] = self.factors
            return self.resample(x, factor), level_side(x, 1 - 1 / factor)
        chosen = torch.randint(len(self.factors), (len(x),), generator=generator, device=x.device)
        corrupted, side = x, level_side(x, 0.0)
        for number, factor in enumerate(self.factors):
            is_chosen = (chosen == number)[:, None, None, None]
            corrupted = torch.where(is_chosen, self.resample(x, factor), corrupted)
            side = torch.where(is_chosen, 1 - 1 / factor, side)
        return corrupted, side


class GaussianBlur(Corruption):
    r"""Out of focus: a Gaussian point spread function, then the noise of a sensor.

    corrupted = (k ∗ x) + σ·n,  k ∝ exp(-r² / 2·radius²) up to 4 deviations,  n ~ N(0, 1)

    `radius` is the kernel's standard deviation in pixels. Pixels beyond the edge are those at the
    edge. The side is the radius.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.6 to 5.8.

    Raises:
        UserError: radius or σ is negative or not finite.

    >>> x = torch.full((1, 1, 16, 16), 0.5)
    >>> corrupted, side = GaussianBlur(radius=2, sigma=0)(x, torch.Generator())
    >>> bool(torch.allclose(corrupted, x))
    True
    """

    tells = True

    def __init__(
        self, radius: float | Sequence[float], sigma: float | Sequence[float], clip: bool = True
    ):
        super().__init__(clip)
        self.radius, self.sigma = Level("noise.radius", radius), Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        radius = level_side(x, self.radius.draw(x, generator))
        reach = int(TRUNCATE * self.radius.ends[-1] + 0.5)
        noise = normal_like(x, generator).mul_(self.sigma.draw(x, generator))
        return blur(x, radius.flatten(), reach).add_(noise), radius


def blur(x: Tensor, deviations: Tensor, reach: int) -> Tensor:
    """Images (B, C, H, W), each blurred by its own Gaussian of kernels 2·reach + 1 pixels wide."""
    offsets = torch.arange(-reach, reach + 1, device=x.device)
    # A deviation of 0 leaves the pixel itself: exp(-∞) for all others.
    weights = (-(offsets**2) / (2 * deviations[:, None].square() + 1e-12)).exp()
    kernels = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
    batch, channels, height, width = x.shape
    kernels = kernels.repeat_interleave(channels, 0)[:, None]
    x = F.pad(x, [reach] * 4, mode="replicate").flatten(0, 1)[None]
    x = F.conv2d(x, kernels[:, :, :, None], groups=batch * channels)
    x = F.conv2d(x, kernels[:, :, None, :], groups=batch * channels)
    return x.reshape(batch, channels, height, width)


class JPEGCompression(Corruption):
    r"""Saved as a JPEG file and read again, by Pillow, on the CPU.

    corrupted = decode(encode(x, quality)): 8×8 blocks, their cosine transform quantised by tables
    that `quality` scales, colour at half the resolution. The side is 1 - quality / 100.

    Source: Wallace, "The JPEG still picture compression standard", IEEE Trans. Consumer Electronics
    38 (1992) xviii.

    Raises:
        UserError: the quality is outside [1, 100], or an image is neither gray nor in colour.

    >>> x = torch.full((1, 3, 16, 16), 0.5)
    >>> corrupted, side = JPEGCompression(50)(x, torch.Generator())
    >>> bool((corrupted - x).abs().max() < 0.01), float(side)
    (True, 0.5)
    """

    tells = True

    def __init__(self, quality: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.quality = Level("noise.quality", quality, low=1, high=100)

    def corrupt(self, x, generator):
        quality = level_side(x, self.quality.draw(x, generator)).round()
        images = (x * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        pairs = zip(images, quality.flatten().int().tolist(), strict=True)
        coded = np.stack([compress(image, number) for image, number in pairs])
        return torch.from_numpy(coded).permute(0, 3, 1, 2).to(x) / 255, 1 - quality / 100


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """An image uint8 (H, W, C) as its JPEG file shows it."""
    if image.shape[2] not in (1, 3):
        raise UserError(f"noise=jpeg takes images of 1 or 3 channels, not of {image.shape[2]}")
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(
        file, "JPEG", quality=quality
    )
    with Image.open(file) as coded:
        return np.asarray(coded).reshape(image.shape)
