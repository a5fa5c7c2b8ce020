"""Bottlenecks that draw their code, a vector; see `interfaces.Bottleneck`.

Each is a distribution q(z | x) of codes, and has a part for the prior p(z).
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.hardware import full_precision, widen
from ae_lab.models.gaussians import (
    draw_gaussian,
    gaussian_kl,
    gaussian_log_prob,
    product_of_gaussians,
    sample_gaussian,
)
from ae_lab.models.networks.layers import linear
from ae_lab.models.priors import Prior, build_prior, estimate_kl


class GaussianBottleneck(nn.Module):
    """q(z | x) = N(μ, diag σ²) with μ and log σ² linear in the features.

    `prior` builds p(z), see `priors`: `standard`, N(0, I), and `label`, p(z | y) of the label y,
    have names. Where the bottleneck draws, z = μ + σ·ε with ε ~ N(0, I) from the device's
    generator, `samples` times on a leading axis if that is more than one; else z = μ. The outputs,
    in nats:

        mean, log_variance  (B, latent)  μ and log σ²
        kl         (B, groups)  KL(q ‖ p) of each dimension where the prior is a Gaussian; else
                                one group, the whole code, whose KL the codes at hand estimate
        log_ratio  (..., B)     log p(z) - log q(z | x), of the codes at hand

    Source: Kingma & Welling, ICLR 2014.

    Raises:
        UserError: latent or samples is not an integer >= 1; an unknown prior.
    """

    outputs = frozenset({"mean", "log_variance", "kl", "log_ratio"})
    is_stochastic = has_prior = True

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        samples: int = 1,
        prior: str | Callable[..., Prior] = "standard",
    ):
        super().__init__()
        self.shape = (check_int("latent", latent),)
        self.samples = check_int("samples", samples)
        self.head = linear(prod(features), 2 * latent, gain=1.0)
        self.prior = build_prior(prior, latent, classes)

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, ...) → μ and log σ², (B, latent) each."""
        return widen(self.head(features.flatten(1))).chunk(2, dim=1)

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) or, where it draws several, (samples, B, latent)."""
        mean, log_variance = self.posterior(features)
        kl = self.prior.kl(mean, log_variance, label)
        code = sample_gaussian(mean, log_variance, self.samples) if draw else mean
        log_ratio = self.prior.log_prob(code, label) - gaussian_log_prob(code, mean, log_variance)
        kl = estimate_kl(log_ratio) if kl is None else kl
        outputs = {"mean": mean, "log_variance": log_variance, "kl": kl, "log_ratio": log_ratio}
        return code, outputs

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K) from the prior, (n, latent)."""
        return self.prior.sample(label, generator)


class FlowBottleneck(nn.Module):
    """q(z | x) by an inverse autoregressive flow: draws of a Gaussian, bent by invertible maps.

        z₀ = μ + σ·ε      z_t = f_t(z_{t-1}; h)      code = z_T,  T = `layers`
        log q(z_T | x) = log N(z₀; μ, σ²) - Σ over t of log |det ∂f_t / ∂z_{t-1}|

    μ, log σ² and h, of `context` dimensions, are linear in the features. `transform` builds each
    f_t, one of the package zuko: dimension i of z_t depends on those before it of z_{t-1}, in an
    order that is reversed from layer to layer, so that drawing takes one pass. It starts as the
    identity. Where the bottleneck does not draw, z₀ = μ. `samples`, `prior`, `kl` and `log_ratio`
    are as `GaussianBottleneck` has them; the KL is always an estimate. Computed in float32.

    Source: Kingma et al., NeurIPS 2016.

    Raises:
        UserError: latent, layers, context or samples is not an integer >= 1; an unknown prior.
    """

    outputs = frozenset({"kl", "log_ratio"})
    is_stochastic = has_prior = True

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        transform: Callable[..., nn.Module],
        layers: int = 2,
        context: int = 64,
        samples: int = 1,
        prior: str | Callable[..., Prior] = "standard",
    ):
        super().__init__()
        self.shape = (check_int("latent", latent),)
        self.samples = check_int("samples", samples)
        self.sizes = (2 * latent, check_int("context", context))
        self.head = linear(prod(features), sum(self.sizes), gain=1.0)
        with torch.device("cpu"):  # masks are made of values, and meta tensors have none
            order = torch.arange(latent)
            orders = [order.flip(0) if t % 2 else order for t in range(check_int("layers", layers))]
            transforms = [transform(latent, context, order=each) for each in orders]
        self.transforms = nn.ModuleList(transforms).to(self.head.weight.device)
        for each in transforms:
            for weight in each.hyper[-1].parameters():
                nn.init.zeros_(weight)
        self.prior = build_prior(prior, latent, classes)

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) or, where it draws several, (samples, B, latent)."""
        parameters = widen(self.head(features.flatten(1)))
        gaussian, context = parameters.split(self.sizes, dim=1)
        mean, log_variance = gaussian.chunk(2, dim=1)
        code = sample_gaussian(mean, log_variance, self.samples) if draw else mean
        log_q = gaussian_log_prob(code, mean, log_variance)
        with full_precision(code.device):
            for transform in self.transforms:
                code, log_det = transform(context).call_and_ladj(code)
                log_q = log_q - log_det
        log_ratio = self.prior.log_prob(code, label) - log_q
        return code, {"kl": estimate_kl(log_ratio), "log_ratio": log_ratio}

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K) from the prior, (n, latent)."""
        return self.prior.sample(label, generator)


class LadderBottleneck(nn.Module):
    """Levels of random codes over one encoder, inferred from the top down.

    The code is z₁, of `latent` dimensions; `top` has those of z₂ to z_L, or of z₂ alone. Upwards,
    d₁ = f and d_{l+1} = g_l(d_l), and each d_l gives a Gaussian (μ̂_l, σ̂_l²). Downwards,

        q(z_L | x) = N(μ̂_L, σ̂_L²)              p(z_L) as `prior` has it
        p(z_l | z_{l+1}) = N(m, s²)             m and log s² a network of z_{l+1}
        q(z_l | x, z_{l+1}) = N(μ, σ²),         σ⁻² = σ̂_l⁻² + s⁻²,  μ = σ² (μ̂_l σ̂_l⁻² + m s⁻²)

    So a ladder is its lowest level and, `above`, a bottleneck of the others: a shorter ladder or,
    at the top, a `GaussianBottleneck`. Its outputs, in nats:

        kl         (B, groups)  those of z₁'s dimensions, then of z₂'s, and so on
        kl_1, ...  (B, groups)  of each level, kl_1 of the code; the last one is kl_top, too
        log_ratio  (..., B)     log p - log q of all levels together

    Source: Sønderby et al., NeurIPS 2016.

    Raises:
        UserError: latent, top, hidden or samples is not an integer >= 1; there is no level above
            the code; an unknown prior.
    """

    is_stochastic = has_prior = True

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        top: int | Sequence[int] = 16,
        hidden: int = 256,
        samples: int = 1,
        prior: str | Callable[..., Prior] = "standard",
    ):
        super().__init__()
        sizes = [top] if isinstance(top, int) else list(top)
        if not sizes:
            raise UserError("model.bottleneck.top=[] has no level: take bottleneck=gaussian")
        above, *others = (check_int("top", size) for size in sizes)
        self.shape = (check_int("latent", latent),)
        self.ends = list(accumulate([latent, *sizes[:-1]]))  # of levels, among groups of the KL
        levels = {f"kl_{level}" for level in range(1, len(sizes) + 2)}
        self.outputs = frozenset({"kl", "kl_top", "log_ratio", *levels})
        inputs, hidden = prod(features), check_int("hidden", hidden)
        self.head = linear(inputs, 2 * latent, gain=1.0)
        self.upwards = nn.Sequential(linear(inputs, hidden), nn.GELU())
        shared = {"features": (hidden,), "classes": classes, "samples": samples, "prior": prior}
        self.above = (
            LadderBottleneck(latent=above, top=others, hidden=hidden, **shared)
            if others
            else GaussianBottleneck(latent=above, **shared)
        )
        self.downwards = nn.Sequential(
            linear(above, hidden), nn.GELU(), linear(hidden, 2 * latent, gain=1.0)
        )

    @property
    def samples(self) -> int:
        """Codes that are drawn for each image: so many at the top, one of each below it."""
        return self.above.samples

    @samples.setter
    def samples(self, number: int) -> None:
        self.above.samples = number

    @property
    def prior(self) -> Prior:
        """That of the top level."""
        return self.above.prior

    def posterior(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, ...) → mean and log variance of the top level's posterior."""
        return self.above.posterior(self.upwards(features.flatten(1)))

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) or, where it draws several, (samples, B, latent)."""
        features = features.flatten(1)
        above, outputs = self.above(self.upwards(features), label, draw)
        prior = widen(self.downwards(above)).chunk(2, dim=-1)
        mean, log_variance = product_of_gaussians(
            *widen(self.head(features)).chunk(2, dim=1), *prior
        )
        code = sample_gaussian(mean, log_variance, 1) if draw else mean
        log_ratio = outputs["log_ratio"] + gaussian_log_prob(code, *prior)
        log_ratio = log_ratio - gaussian_log_prob(code, mean, log_variance)
        kl = gaussian_kl(mean, log_variance, *prior)
        kl = torch.cat([kl.mean(0) if kl.ndim > 2 else kl, outputs["kl"]], 1)
        levels = kl.tensor_split(self.ends, dim=1)
        named = {f"kl_{level}": part for level, part in enumerate(levels, 1)}
        return code, {"kl": kl, "kl_top": levels[-1], "log_ratio": log_ratio, **named}

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K) from the prior, (n, latent)."""
        above = self.above.sample(label, generator)
        mean, log_variance = widen(self.downwards(above)).chunk(2, dim=1)
        return draw_gaussian(len(label), mean, log_variance, generator)
