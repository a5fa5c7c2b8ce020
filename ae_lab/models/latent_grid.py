"""A grid of codes over where the codes of images lie."""

import torch
from torch import Tensor


def latent_grid(codes: Tensor, rows: int, columns: int, quantile: float = 0.02) -> Tensor:
    """A grid (rows, columns, 2) over where codes (N, 2) lie, upwards along the second axis.

    Each axis goes from the codes' quantile `quantile` to 1 - `quantile`.
    """
    ends = torch.tensor([quantile, 1 - quantile], device=codes.device)
    low, high = codes.quantile(ends, dim=0)
    steps = torch.linspace(0, 1, columns), torch.linspace(1, 0, rows)
    along, up = torch.meshgrid(*steps, indexing="xy")
    return low + torch.stack([along, up], dim=2).to(codes.device) * (high - low)
