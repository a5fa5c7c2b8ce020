"""Noise: additive, impulse, multiplicative, and several at random."""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from ae_lab.core.errors import UserError, check_float
from ae_lab.data.corruptions.corruption import Corruption, Level


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


class GaussianNoise(Corruption):
    r"""Additive white Gaussian noise, the model of a sensor's read-out noise.

    corrupted = x + σ·n,  n ~ N(0, 1) for every pixel and channel; σ in units of the pixel range.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: σ is negative or not finite.

    >>> x = torch.full((1, 1, 64, 64), 0.5)
    >>> corrupted = GaussianNoise(sigma=0.1)(x, torch.Generator().manual_seed(0))
    >>> round(float((corrupted - x).std()), 1)
    0.1
    """

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).add_(x)


class SaltPepperNoise(Corruption):
    r"""Impulse noise: a pixel is struck with probability `amount`.

    With u ~ U(0, 1) per pixel:  corrupted = 1 where u < amount·ratio,  0 where
    amount·ratio <= u < amount,  x elsewhere. `ratio` is the share of salt (white).
    A whole pixel is struck, all its channels alike, unless `per_channel`.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: amount or ratio is outside [0, 1].

    >>> x = torch.full((1, 1, 100, 100), 0.5)
    >>> corrupted = SaltPepperNoise(amount=0.2)(x, torch.Generator().manual_seed(0))
    >>> round(float((corrupted != x).float().mean()), 1)
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
        self.ratio = check_float("noise.ratio", ratio, high=1.0)
        self.per_channel = per_channel

    def corrupt(self, x, generator):
        amount = self.amount.draw(x, generator)
        channels = x.shape[1] if self.per_channel else 1
        u = torch.rand(
            (x.shape[0], channels, *x.shape[2:]), generator=generator, device=x.device
        ).expand_as(x)
        salt = (u < amount * self.ratio).to(x.dtype)
        return torch.where(u < amount, salt, x)


class SpeckleNoise(Corruption):
    r"""Multiplicative noise, as in coherent imaging (ultrasound, radar).

    corrupted = x + x·σ·n,  n ~ N(0, 1) for every pixel and channel: black stays black.

    Source: Goodman, J. Opt. Soc. Am. 66 (1976) 1145; the Gaussian form is the usual one.

    Raises:
        UserError: σ is negative or not finite.

    >>> corrupted = SpeckleNoise(sigma=0.4)(torch.zeros(1, 1, 8, 8), torch.Generator())
    >>> float(corrupted.abs().max())
    0.0
    """

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).mul_(x).add_(x)


class MixedNoise(Corruption):
    r"""One of several noises, each as likely, drawn for each image.

    corrupted = kinds[k](x),  k ~ U{1 ... K}

    Raises:
        UserError: there is none to choose from.

    >>> both = MixedNoise({"weak": GaussianNoise(0.01), "strong": GaussianNoise(0.3)})
    >>> x = torch.full((100, 1, 8, 8), 0.5)
    >>> corrupted = both(x, torch.Generator().manual_seed(0))
    >>> bool(0.3 < ((corrupted - x).flatten(1).std(1) < 0.1).float().mean() < 0.7)
    True
    """

    def __init__(self, kinds: Mapping[str, Corruption], clip: bool = True):
        super().__init__(clip)
        if not kinds:
            raise UserError("noise=mixed has no kinds: name some under noise.kinds")
        self.kinds = list(kinds.values())

    def corrupt(self, x, generator):
        chosen = torch.randint(len(self.kinds), (len(x),), generator=generator, device=x.device)
        corrupted = x
        for number, kind in enumerate(self.kinds):
            one = kind.corrupt(x, generator)
            corrupted = torch.where((chosen == number)[:, None, None, None], one, corrupted)
        return corrupted
