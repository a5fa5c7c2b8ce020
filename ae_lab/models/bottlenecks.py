"""Bottlenecks whose code is not random; see `interfaces.Bottleneck`."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_int
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
        return torch.randn(len(label), *self.shape, generator=generator).to(label)


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


def keep_largest(values: Tensor, k: int) -> Tensor:
    """Values (B, n) with all but the k largest of each row set to 0."""
    largest, places = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter(1, places, largest)
