"""Gaussians with a diagonal covariance, given by mean and log variance."""

import math

import torch
from torch import Generator, Tensor, nn


def sample_gaussian(mean: Tensor, log_variance: Tensor, samples: int) -> Tensor:
    """Codes from N(mean, diag exp(log_variance)), several of each on a first axis if asked for."""
    many = (samples,) if samples > 1 else ()
    # The same draws at every precision
    noise = torch.randn((*many, *mean.shape), device=mean.device, dtype=torch.float32)
    return reparameterize(mean, log_variance, noise.to(mean))


def draw_gaussian(n: int, mean: Tensor, log_variance: Tensor, generator: Generator) -> Tensor:
    """n codes from Gaussians (n or 1, latent), drawn by a generator on the CPU, (n, latent)."""
    noise = torch.randn(n, mean.shape[1], generator=generator, dtype=torch.float32)
    return reparameterize(mean, log_variance, noise.to(mean))


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
