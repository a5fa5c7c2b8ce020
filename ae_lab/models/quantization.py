"""Codes from a finite set; see `interfaces.Bottleneck`."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn

from ae_lab.core.errors import check_int
from ae_lab.core.hardware import full_precision, widen
from ae_lab.models.networks.layers import linear
from ae_lab.models.ranks import sum_over_ranks


class QuantizedBottleneck(nn.Module):
    """Each vector of the code is the nearest one of a finite set.

    Features that are maps (C, h, w) are projected by a 1×1 convolution and quantised at each
    place: the code is (dim, h, w), of h·w tokens. Features that are a vector are projected to
    `latent` tokens: the code is (latent·dim,). With t a token and q its code,

        code = t + stop_gradient(q - t)

    so that gradients pass as if nothing was quantised. `quantizer` builds one of the package
    vector-quantize-pytorch, which knows `dim`: `VectorQuantize` (q the nearest of a codebook,
    whose entries are moving averages of the tokens that chose them), `ResidualVQ` (q the sum over
    levels, each of which quantises what those before it left over) or `FSQ` (q the nearest point
    of a fixed grid; gradients also pass through the tanh that bounds t). The outputs:

        commitment    (B,)                 Σ over tokens of |t - stop_gradient(q)|²
        indices       (B, tokens, levels)  which entry; -1 for a level that was dropped out
        index_counts  (levels, entries)    how often the batch chose each

    All is computed in float32. The codebook's moving averages, and the entries that hardly any
    token chose and that become random tokens of the batch, change in training alone; they are in
    the state_dict. On several devices they follow the tokens of all; what becomes an entry is a
    token of the first.

    Source: van den Oord, Vinyals & Kavukcuoglu, NeurIPS 2017; Lee et al., CVPR 2022 (residual);
    Mentzer et al., ICLR 2024 (FSQ).

    Raises:
        UserError: latent, dim, the size or the number of codebooks is not an integer >= 1.
    """

    outputs = frozenset({"commitment", "indices", "index_counts"})
    is_stochastic = has_prior = False

    def __init__(
        self,
        features: Sequence[int],
        classes: int,
        quantizer: Callable[..., nn.Module],
        latent: int = 32,
    ):
        super().__init__()
        with torch.device("cpu"):  # FSQ reads values as it is built, and meta tensors have none
            self.quantizer = quantizer()
        self.codebook_size = check_int("codebook_size", self.quantizer.codebook_size)
        self.levels = check_int("num_quantizers", getattr(self.quantizer, "num_quantizers", 1))
        for part in self.quantizer.modules():
            if hasattr(part, "all_reduce_fn"):  # else decided now, before ranks know each other
                part.all_reduce_fn = sum_over_ranks
        dim = getattr(self.quantizer, "dim", None) or getattr(self.quantizer, "codebook_dim", 0)
        check_int("dim, or the number of levels of FSQ,", dim)
        if len(features) == 3:
            self.shape = (dim, *features[1:])
            self.head = nn.Conv2d(features[0], dim, 1)
        else:
            self.shape = (check_int("latent", latent) * dim,)
            self.head = nn.Sequential(nn.Flatten(), linear(prod(features), *self.shape, gain=1.0))
        self.num_tokens = prod(self.shape) // dim

    def forward(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) → code (B, dim, h, w) or (B, latent·dim)."""
        tokens = self.to_tokens(widen(self.head(features)))
        quantized, indices = self.quantize(tokens)
        return self.to_code(quantized), {
            "commitment": (tokens - quantized.detach()).square().flatten(1).sum(1),
            "indices": indices,
            "index_counts": self.count(indices),
        }

    def compile(self, *_, **__) -> None:
        """Nothing: quantisers look at values, and torch.compile fails on them."""

    def quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, tokens, dim) → their codes, of the same shape, and indices."""
        places = (*tokens.shape[:2], self.levels)
        if tokens.is_meta:  # they have no values to look at
            return tokens, tokens.new_zeros(places, dtype=torch.long)
        with full_precision(tokens.device):
            quantized, indices = self.quantizer(tokens)[:2]
        return quantized, indices.long().reshape(places)

    def to_tokens(self, code: Tensor) -> Tensor:
        """(B, *shape) → (B, tokens, dim)."""
        if len(self.shape) == 3:
            return code.flatten(2).mT
        return code.unflatten(1, (self.num_tokens, -1))

    def to_code(self, tokens: Tensor) -> Tensor:
        """(B, tokens, dim) → (B, *shape)."""
        return (tokens.mT if len(self.shape) == 3 else tokens).reshape(-1, *self.shape)

    def count(self, indices: Tensor) -> Tensor:
        """How often each entry of each level is among indices (B, tokens, levels)."""
        size = self.levels * self.codebook_size
        places = indices + self.codebook_size * torch.arange(self.levels, device=indices.device)
        places = torch.where(indices < 0, size, places).flatten()  # dropped ones past the end
        counts = places.new_zeros(size + 1).scatter_add_(0, places, torch.ones_like(places))
        return counts[:size].view(self.levels, -1)

    def look_up(self, indices: Tensor) -> Tensor:
        """The codes (B, *shape) of indices (B, tokens, levels)."""
        indices = indices.squeeze(2) if self.levels == 1 else indices
        if hasattr(self.quantizer, "get_output_from_indices"):
            return self.to_code(self.quantizer.get_output_from_indices(indices))
        return self.to_code(self.quantizer.indices_to_codes(indices))
