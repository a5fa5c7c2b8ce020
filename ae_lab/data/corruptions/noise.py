"""Noise: additive, impulse, multiplicative, of photons, and several at random."""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from ae_lab.core.errors import UserError, check_float
from ae_lab.data.corruptions.corruption import Corruption, Level, level_side

LEAST_PEAK = 0.01  # photons


def normal_like(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


class GaussianNoise(Corruption):
    r"""Additive white Gaussian noise, the model of a sensor's read-out noise.

    corrupted = x + σ·n,  n ~ N(0, 1) for every pixel and channel; σ in units of the pixel range.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: σ is negative or not finite.

    >>> x = torch.full((1, 1, 64, 64), 0.5)
    >>> corrupted, side = GaussianNoise(sigma=0.1)(x, torch.Generator().manual_seed(0))
    >>> round(float((corrupted - x).std()), 1), round(float(side), 1)
    (0.1, 0.1)
    """

    tells = True  # σ

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).add_(x), level_side(x, sigma)


class SaltPepperNoise(Corruption):
    r"""Impulse noise: a pixel is struck with probability `amount`.

    With u ~ U(0, 1) per pixel:  corrupted = 1 where u < amount·ratio,  0 where
    amount·ratio <= u < amount,  x elsewhere. `ratio` is the share of salt (white).
    A whole pixel is struck, all its channels alike, unless `per_channel`.

    Source: Gonzalez & Woods, Digital Image Processing, 4th ed., §5.2.

    Raises:
        UserError: amount or ratio is outside [0, 1].

    >>> x = torch.full((1, 1, 100, 100), 0.5)
    >>> corrupted, side = SaltPepperNoise(amount=0.2)(x, torch.Generator().manual_seed(0))
    >>> round(float((corrupted != x).float().mean()), 1)
    0.2
    """

    tells = True  # the amount

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
        return torch.where(u < amount, salt, x), level_side(x, amount)


class SpeckleNoise(Corruption):
    r"""Multiplicative noise, as in coherent imaging (ultrasound, radar).

    corrupted = x + x·σ·n,  n ~ N(0, 1) for every pixel and channel: black stays black.

    Source: Goodman, J. Opt. Soc. Am. 66 (1976) 1145; the Gaussian form is the usual one.

    Raises:
        UserError: σ is negative or not finite.

    >>> corrupted, side = SpeckleNoise(sigma=0.4)(torch.zeros(1, 1, 8, 8), torch.Generator())
    >>> float(corrupted.abs().max())
    0.0
    """

    tells = True  # σ

    def __init__(self, sigma: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.sigma = Level("noise.sigma", sigma)

    def corrupt(self, x, generator):
        sigma = self.sigma.draw(x, generator)
        return normal_like(x, generator).mul_(sigma).mul_(x).add_(x), level_side(x, sigma)


class PoissonNoise(Corruption):
    r"""Shot noise: each pixel counts photons, of which a white one receives `peak` on average.

    corrupted = n / peak,  n ~ Poisson(peak·x) for every pixel and channel: its mean is x, its
    variance x / peak. The side is 1/√peak, the deviation at white.

    Source: Hasinoff, "Photon, Poisson noise", in Computer Vision: A Reference Guide, 2014.

    Raises:
        UserError: the peak is not above 0.

    >>> x = torch.full((1, 1, 64, 64), 0.5)
    >>> corrupted, side = PoissonNoise(peak=50)(x, torch.Generator().manual_seed(0))
    >>> round(float((corrupted - x).std()), 1)
    0.1
    """

    tells = True

    def __init__(self, peak: float | Sequence[float], clip: bool = True):
        super().__init__(clip)
        self.peak = Level("noise.peak", peak, low=LEAST_PEAK)

    def corrupt(self, x, generator):
        peak = self.peak.draw(x, generator)
        counts = torch.poisson(x.clamp_min(0) * peak, generator=generator)
        return counts / peak, level_side(x, peak).rsqrt()


class MixedNoise(Corruption):
    r"""One of several corruptions, each as likely, drawn for each image.

    corrupted = kinds[k](x),  k ~ U{1 ... K}

    The side is that of the kind drawn, 0 of one that tells nothing; which kind it is is not told.

    Raises:
        UserError: there is none to choose from.

    >>> both = MixedNoise({"weak": GaussianNoise(0.01), "strong": GaussianNoise(0.3)})
    >>> x = torch.full((100, 1, 8, 8), 0.5)
    >>> corrupted, _ = both(x, torch.Generator().manual_seed(0))
    >>> bool(0.3 < ((corrupted - x).flatten(1).std(1) < 0.1).float().mean() < 0.7)
    True
    """

    def __init__(self, kinds: Mapping[str, Corruption], clip: bool = True):
        super().__init__(clip)
        if not kinds:
            raise UserError("noise=mixed has no kinds: name some under noise.kinds")
        self.kinds = list(kinds.values())
        self.tells = any(kind.tells for kind in self.kinds)

    def corrupt(self, x, generator):
        chosen = torch.randint(len(self.kinds), (len(x),), generator=generator, device=x.device)
        corrupted, side = x, level_side(x, 0.0)
        for number, kind in enumerate(self.kinds):
            is_chosen = (chosen == number)[:, None, None, None]
            one, told = kind.corrupt(x, generator)
            corrupted = torch.where(is_chosen, one, corrupted)
            side = side if told is None else torch.where(is_chosen, told, side)
        return corrupted, side
