"""Bottlenecks: from the encoder's features to the code; see `interfaces.Bottleneck`."""

import math
from collections.abc import Sequence
from math import prod

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.models.networks.layers import activation as make_activation
from ae_lab.models.networks.layers import linear
from ae_lab.models.ranks import num_ranks, sum_over_ranks


class LinearBottleneck(nn.Module):
    """z = a(W·features + b), of `latent` dimensions; without an `activation` a, of any value.

    With `has_prior` the code has a prior, N(0, I), that the objective draws it towards.

    Raises:
        UserError: latent is not an integer >= 1; an unknown activation.
    """

    outputs = frozenset()
    is_stochastic = False

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        activation: str | None = None,
        has_prior: bool = False,
    ):
        super().__init__()
        self.shape, self.has_prior = (check_int("latent", latent),), has_prior
        self.head = linear(prod(features), latent)
        self.activation = nn.Identity() if activation is None else make_activation(activation)

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent)."""
        return self.activation(self.head(features.flatten(1))), {}

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """As many codes as there are labels from N(0, I), (n, latent)."""
        return torch.randn(len(label), *self.shape, generator=generator).to(label.device)


class TopKBottleneck(nn.Module):
    """z = W·features + b with all but its `k` largest values set to 0, and those below 0 as well.

    A unit that was not among the k for `dead_after` images of training is dead. The output
    `dead_code` (B, latent) holds the `num_revived` largest values of dead units, for a term that
    makes them explain what the others leave over.

    Source: Makhzani & Frey, ICLR 2014; dead units: Gao et al., 2024.

    Raises:
        UserError: k, num_revived or dead_after is not an integer >= 1, or k exceeds latent.
    """

    outputs = frozenset({"dead_code"})
    is_stochastic = has_prior = False

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        k: int = 8,
        num_revived: int = 64,
        dead_after: int = 10_000,
    ):
        super().__init__()
        self.shape = (check_int("latent", latent),)
        self.k, self.num_revived = check_int("k", k), check_int("num_revived", num_revived)
        if k > latent:
            raise UserError(f"model.bottleneck.k={k} is more than latent={latent}: take fewer")
        self.dead_after = check_int("dead_after", dead_after)
        self.head = linear(prod(features), latent)
        self.register_buffer("idle", torch.zeros(latent))  # images since a unit was active

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) with at most k values that are not 0."""
        values = self.head(features.flatten(1))
        code = keep_largest(values, self.k).relu()
        if self.training:
            num_active = (code > 0).sum(0)
            sum_over_ranks(num_active)
            idle = self.idle + len(code) * num_ranks()
            self.idle.copy_(torch.where(num_active > 0, 0.0, idle))
        dead = values.masked_fill(self.idle < self.dead_after, -torch.inf)
        # Also below 0: a unit that is off for each image would have no gradient that revives it.
        dead_code = keep_largest(dead, min(self.num_revived, len(self.idle)))
        return code, {"dead_code": dead_code.masked_fill(dead_code.isinf(), 0.0)}


class IdentityBottleneck(nn.Module):
    """z = features: the encoder's last maps (B, C, h, w) are the code; `latent` is its C."""

    outputs = frozenset()
    is_stochastic = has_prior = False

    def __init__(self, features: Sequence[int], classes: int):
        super().__init__()
        self.shape = tuple(features)

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return features, {}


class GaussianBottleneck(nn.Module):
    """q(z | x) = N(μ, diag σ²) with μ and log σ² linear in the features.

    The prior is p(z) = N(0, I), or with `prior=label` p(z | y) = N(m, diag s²), m and log s² linear
    in the label y. Where it draws, z = μ + σ·ε with ε ~ N(0, I) from the device's generator,
    `samples` times on a leading axis if that is more than one; else z = μ. The outputs, in nats:

        mean, log_variance  (B, latent)  μ and log σ²
        kl         (B, latent)  ½ [(μ - m)²/s² + σ²/s² - 1 - log(σ²/s²)], for each dimension
        log_ratio  (..., B)     log p(z) - log q(z | x), of the codes at hand

    Source: Kingma & Welling, ICLR 2014; the prior of the label: Sohn, Lee & Yan, NeurIPS 2015.

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
        prior: str = "standard",
    ):
        super().__init__()
        self.shape = (check_int("latent", latent),)
        self.samples = check_int("samples", samples)
        self.head = linear(prod(features), 2 * latent, gain=1.0)
        self.prior_head = check_choice("prior", prior, {"standard": None, "label": nn.Linear})
        if self.prior_head:
            self.prior_head = nn.Linear(classes, 2 * latent, bias=False)
            nn.init.zeros_(self.prior_head.weight)  # the standard prior, to start with

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) or, where it draws several, (samples, B, latent)."""
        mean, log_variance = self.head(features.flatten(1)).float().chunk(2, dim=1)
        prior_mean, prior_log_variance = self.prior(label)
        kl = gaussian_kl(mean, log_variance, prior_mean, prior_log_variance)
        code = sample_gaussian(mean, log_variance, self.samples) if draw else mean
        log_ratio = gaussian_log_prob(code, prior_mean, prior_log_variance)
        return code, {
            "mean": mean,
            "log_variance": log_variance,
            "kl": kl,
            "log_ratio": log_ratio - gaussian_log_prob(code, mean, log_variance),
        }

    def prior(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the prior, (B, latent) or (1, latent)."""
        if self.prior_head is None:
            nothing = label.new_zeros(1, *self.shape)
            return nothing, nothing
        return self.prior_head(label).float().chunk(2, dim=1)

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K) from the prior, (n, latent)."""
        mean, log_variance = self.prior(label)
        noise = torch.randn(len(label), *self.shape, generator=generator)
        return reparameterize(mean, log_variance, noise.to(mean.device))


class LadderBottleneck(nn.Module):
    """Two levels of random codes over one encoder, inferred from the top down.

    Upwards, d₁ = f, d₂ = g(d₁), and each gives a Gaussian (μ̂, σ̂²). Downwards,

        p(z₂) = N(0, I)                 q(z₂ | x) = N(μ̂₂, σ̂₂²)
        p(z₁ | z₂) = N(m(z₂), s²(z₂))   q(z₁ | x, z₂) = N(μ, σ²),  σ⁻² = σ̂₁⁻² + s⁻²,
                                        μ = σ² (μ̂₁ σ̂₁⁻² + m s⁻²)

    The code is z₁, of `latent` dimensions; z₂ has `top`. It outputs `kl` as `GaussianBottleneck`
    does, z₁'s dimensions before z₂'s, `kl_top` of z₂'s alone, and `log_ratio` of both levels.

    Source: Sønderby et al., NeurIPS 2016.

    Raises:
        UserError: latent, top, hidden or samples is not an integer >= 1.
    """

    outputs = frozenset({"kl", "kl_top", "log_ratio"})
    is_stochastic = has_prior = True

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        latent: int,
        top: int = 16,
        hidden: int = 256,
        samples: int = 1,
    ):
        super().__init__()
        self.shape, self.top = (check_int("latent", latent),), check_int("top", top)
        self.samples = check_int("samples", samples)
        inputs, hidden = prod(features), check_int("hidden", hidden)
        self.head = linear(inputs, 2 * latent, gain=1.0)
        self.upwards = nn.Sequential(linear(inputs, hidden), nn.GELU())
        self.top_head = linear(hidden, 2 * top, gain=1.0)
        self.downwards = nn.Sequential(
            linear(top, hidden), nn.GELU(), linear(hidden, 2 * latent, gain=1.0)
        )

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) or, where it draws several, (samples, B, latent)."""
        features = features.flatten(1)
        top_mean, top_log_variance = self.top_head(self.upwards(features)).float().chunk(2, dim=1)
        top = sample_gaussian(top_mean, top_log_variance, self.samples) if draw else top_mean
        prior_mean, prior_log_variance = self.downwards(top).float().chunk(2, dim=-1)
        seen_mean, seen_log_variance = self.head(features).float().chunk(2, dim=1)
        mean, log_variance = product_of_gaussians(
            seen_mean, seen_log_variance, prior_mean, prior_log_variance
        )
        code = sample_gaussian(mean, log_variance, 1) if draw else mean
        nothing = torch.zeros_like(top_mean)
        kl_top = gaussian_kl(top_mean, top_log_variance, nothing, nothing)
        kl = gaussian_kl(mean, log_variance, prior_mean, prior_log_variance)
        kl = kl.mean(0) if kl.ndim > kl_top.ndim else kl
        log_ratio = gaussian_log_prob(top, nothing, nothing) - gaussian_log_prob(
            top, top_mean, top_log_variance
        )
        log_ratio = log_ratio + gaussian_log_prob(code, prior_mean, prior_log_variance)
        log_ratio = log_ratio - gaussian_log_prob(code, mean, log_variance)
        return code, {"kl": torch.cat([kl, kl_top], 1), "kl_top": kl_top, "log_ratio": log_ratio}

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """As many codes as there are labels from the prior, (n, latent)."""
        top = torch.randn(len(label), self.top, generator=generator).to(label.device)
        mean, log_variance = self.downwards(top).float().chunk(2, dim=1)
        noise = torch.randn(len(label), *self.shape, generator=generator)
        return reparameterize(mean, log_variance, noise.to(mean.device))


def keep_largest(values: Tensor, k: int) -> Tensor:
    """Values (B, n) with all but the k largest of each row set to 0."""
    largest, places = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter(1, places, largest)


def sample_gaussian(mean: Tensor, log_variance: Tensor, samples: int) -> Tensor:
    """Codes from N(mean, diag exp(log_variance)), several of each on a first axis if asked for."""
    many = (samples,) if samples > 1 else ()
    return reparameterize(mean, log_variance, torch.randn((*many, *mean.shape), device=mean.device))


def reparameterize(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Standard normal draws as draws from N(mean, diag exp(log_variance))."""
    return mean + (0.5 * log_variance).exp() * noise


def product_of_gaussians(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log variance of the normalised product of two Gaussians."""
    log_weight = nn.functional.logsigmoid(prior_log_variance - log_variance)  # of the first one
    weight = log_weight.exp()
    return weight * mean + (1 - weight) * prior_mean, log_weight + log_variance


def gaussian_kl(
    mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor
) -> Tensor:
    """KL of two diagonal Gaussians in nats, for each dimension."""
    distance = (mean - prior_mean).square() / prior_log_variance.exp()
    excess = log_variance - prior_log_variance
    return 0.5 * (distance + excess.exp() - 1 - excess)


def gaussian_log_prob(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; mean, diag exp(log_variance)), summed over the last axis, in nats."""
    squares = (z - mean).square() / log_variance.exp()
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(-1)


def check_prior(model, why: str) -> None:
    """Check that a model's codes have a prior to draw from.

    Raises:
        UserError: they have none; it begins with why one is needed.
    """
    if not model.bottleneck.has_prior:
        raise UserError(
            f"{why}, which the bottleneck does not have: take model.bottleneck.has_prior=true, or "
            "bottleneck=gaussian"
        )
