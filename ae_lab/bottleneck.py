"""Bottlenecks: from the encoder's features to the code, and from chance to codes that decode."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Generator, Tensor, nn

from ae_lab.errors import whole
from ae_lab.nets.layers import linear


class Deterministic(nn.Module):
    """z = W·features + b, of `latent` dimensions, with no limit on where a code may lie.

    Such a code has no prior of its own. To generate, the bottleneck draws from a normal
    distribution with the mean and the full covariance of the training codes (`fit`).

    Raises:
        UserError: latent is not a whole number of at least 1.
    """

    def __init__(self, features: Sequence[int], latent: int):
        super().__init__()
        self.latent = whole("latent", latent)
        self.shape = (latent,)
        self.head = linear(prod(features), latent)

    def forward(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, latent) and what the objective may want to know of it."""
        return self.head(features.flatten(1)), {}

    def fit(self, codes: Tensor) -> None:
        """Learn where codes (N, latent) lie; needed before `sample`."""
        self.mean = codes.mean(0)
        # The jitter keeps the factorisation possible where a dimension of the code has died.
        jitter = 1e-6 * torch.eye(self.latent, device=codes.device)
        self.scale = torch.linalg.cholesky(codes.T.cov().reshape(jitter.shape) + jitter)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n random codes (n, latent): mean + L·ε, ε ~ N(0, I), L·Lᵀ the codes' covariance."""
        draws = torch.randn(n, self.latent, generator=generator, device=generator.device)
        return self.mean + draws.to(self.mean.device) @ self.scale.T


class Maps(nn.Module):
    """z = features: the encoder's last maps (B, C, h, w) are the code; `latent` is its C.

    Random codes drawn without regard to place would not look like any image's: it has no `sample`.
    """

    def __init__(self, features: Sequence[int]):
        super().__init__()
        self.shape = tuple(features)

    def forward(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return features, {}
