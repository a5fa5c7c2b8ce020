r"""Corruptions of an image: `noise(x, generator) -> (seen, side)`.

`x` is a float batch (B, C, H, W) in [0, 1]; `seen` has its shape; `side` is what a network may be
told about the corruption (a mask, say), or None. With `clip` the seen image is limited to [0, 1],
as a camera would. All draws come from the generator, which lives on the images' device. A level
is a number, or [low, high] to be drawn anew for each image.

A new noise is a subclass of `Noise` and one file in `conf/noise/`.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from ae_lab.errors import UserError, real


class Level:
    """How strong a noise is: one number, or [low, high] to draw from uniformly for each image.

    Raises:
        UserError: not finite, below 0 or above `high`, or not in order.
    """

    def __init__(self, name: str, value: float | Sequence[float], high: float = math.inf):
        ends = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )
        self.ends = [real(name, end, high=high) for end in ends]
        if len(self.ends) not in (1, 2) or self.ends[0] > self.ends[-1]:
            raise UserError(f"{name}={value} is impossible: give a number, or [lowest, highest]")

    def draw(self, x: Tensor, generator: Generator) -> float | Tensor:
        """The number itself, or one for each image, (B, 1, 1, 1)."""
        low, *high = self.ends
        if not high:
            return low
        u = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
        return low + (high[0] - low) * u


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

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).add_(x), None


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
        self,
        amount: float | Sequence[float],
        ratio: float = 0.5,
        per_channel: bool = False,
        clip: bool = True,
    ):
        super().__init__(clip)
        self.amount = Level("noise.amount", amount, high=1.0)
        self.ratio = real("noise.ratio", ratio, high=1.0)
        self.per_channel = per_channel

    def corrupt(self, x, generator):
        amount = self.amount.draw(x, generator)
        channels = x.shape[1] if self.per_channel else 1
        u = torch.rand(
            (x.shape[0], channels, *x.shape[2:]), generator=generator, device=x.device
        ).expand_as(x)
        salt = (u < amount * self.ratio).to(x.dtype)
        return torch.where(u < amount, salt, x), None


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

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).mul_(x).add_(x), None


class Mixed(Noise):
    r"""One of several noises, each as likely, drawn for each image.

    seen = kinds[k](x),  k ~ U{1 ... K}

    Raises:
        UserError: there is none to choose from.

    >>> both = Mixed({"weak": Gaussian(0.01), "strong": Gaussian(0.3)})
    >>> x = torch.full((100, 1, 8, 8), 0.5)
    >>> seen, _ = both(x, torch.Generator().manual_seed(0))
    >>> bool(0.3 < ((seen - x).flatten(1).std(1) < 0.1).float().mean() < 0.7)
    True
    """

    def __init__(self, kinds: Mapping[str, Noise], clip: bool = True):
        super().__init__(clip)
        if not kinds:
            raise UserError("noise=mixed has no kinds: name some under noise.kinds")
        self.kinds = list(kinds.values())

    def corrupt(self, x, generator):
        chosen = torch.randint(len(self.kinds), (len(x),), generator=generator, device=x.device)
        seen = x
        for number, kind in enumerate(self.kinds):
            corrupted, _ = kind.corrupt(x, generator)
            seen = torch.where((chosen == number)[:, None, None, None], corrupted, seen)
        return seen, None
