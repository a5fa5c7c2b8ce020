r"""Corruptions of an image: `noise(x, generator) -> (seen, side)`.

`x` is a float batch (B, C, H, W) in [0, 1]; `seen` has its shape; `side` is what a network may be
told about the corruption (a mask, say), or None. With `clip` the seen image is limited to [0, 1],
as a camera would. All draws come from the generator, which lives on the images' device.

A new noise is a subclass of `Noise` and one file in `conf/noise/`.
"""

import torch
from torch import Generator, Tensor, nn

from ae_lab.errors import real


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


class Noise(nn.Module):
    """No corruption: seen = x. The base of all others, which override `corrupt`.

    >>> x = torch.rand(2, 1, 28, 28)
    >>> seen, side = Noise()(x, torch.Generator())
    >>> torch.equal(seen, x), side
    (True, None)
    """

    def __init__(self, clip: bool = True):
        super().__init__()
        self.clip = clip

    def corrupt(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None]:
        return x, None

    def forward(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None]:
        seen, side = self.corrupt(x, generator)
        return (seen.clamp_(0, 1) if self.clip and seen is not x else seen), side


class Gaussian(Noise):
    r"""Additive white Gaussian noise, the model of a sensor's read-out noise.

    seen = x + σ·n,  n ~ N(0, 1) for every pixel and channel; σ in units of the pixel range [0, 1].

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: σ is negative or not finite.

    >>> x = torch.full((1, 1, 64, 64), 0.5)
    >>> seen, _ = Gaussian(sigma=0.1)(x, torch.Generator().manual_seed(0))
    >>> round(float((seen - x).std()), 1)
    0.1
    """

    def __init__(self, sigma: float, clip: bool = True):
        super().__init__(clip)
        self.sigma = real("noise.sigma", sigma)

    def corrupt(self, x, generator):
        return torch.add(x, normal_like(x, generator), alpha=self.sigma), None


class SaltPepper(Noise):
    r"""Impulse noise: a pixel is struck with probability `amount`.

    With u ~ U(0, 1) per pixel:  seen = 1 where u < amount·ratio,  0 where
    amount·ratio <= u < amount,  x elsewhere. `ratio` is the share of salt (white).
    A whole pixel is struck, all its channels alike, unless `per_channel`.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: amount or ratio is outside [0, 1].

    >>> x = torch.full((1, 1, 100, 100), 0.5)
    >>> seen, _ = SaltPepper(amount=0.2)(x, torch.Generator().manual_seed(0))
    >>> round(float((seen != x).float().mean()), 1)
    0.2
    """

    def __init__(
        self, amount: float, ratio: float = 0.5, per_channel: bool = False, clip: bool = True
    ):
        super().__init__(clip)
        self.amount = real("noise.amount", amount, high=1.0)
        self.ratio = real("noise.ratio", ratio, high=1.0)
        self.per_channel = per_channel

    def corrupt(self, x, generator):
        channels = x.shape[1] if self.per_channel else 1
        u = torch.rand(
            (x.shape[0], channels, *x.shape[2:]), generator=generator, device=x.device
        ).expand_as(x)
        salt = (u < self.amount * self.ratio).to(x.dtype)
        return torch.where(u < self.amount, salt, x), None


class Speckle(Noise):
    r"""Multiplicative noise, as in coherent imaging (ultrasound, radar).

    seen = x + x·σ·n,  n ~ N(0, 1) for every pixel and channel: black stays black.

    Source: Goodman, J. Opt. Soc. Am. 66 (1976) 1145; the Gaussian form is the usual one.

    Raises:
        UserError: σ is negative or not finite.

    >>> seen, _ = Speckle(sigma=0.4)(torch.zeros(1, 1, 8, 8), torch.Generator())
    >>> float(seen.abs().max())
    0.0
    """

    def __init__(self, sigma: float, clip: bool = True):
        super().__init__(clip)
        self.sigma = real("noise.sigma", sigma)

    def corrupt(self, x, generator):
        return torch.addcmul(x, x, normal_like(x, generator), value=self.sigma), None
