"""Mean losses of an epoch."""

from dataclasses import dataclass, field

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor


@dataclass
class LossMeans:
    """The mean of losses over an epoch's images: sums on the device, and how many are in them."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    num_images: int = 0

    def add(self, means: dict[str, Tensor], num_images: int) -> None:
        """Add a batch's mean losses."""
        for name, value in means.items():
            value = value.detach()
            total = self.sums.get(name)
            self.sums[name] = (
                value * num_images if total is None else total.add(value, alpha=num_images)
            )
        self.num_images += num_images

    def compute(self, stage: str, strategy: Strategy) -> dict[str, float]:
        """The means over all ranks, as `stage/name`. All ranks have to call it."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name] for name in names]).double()
        count = torch.tensor([self.num_images], device=sums.device, dtype=torch.float64)
        total = strategy.reduce(torch.cat([sums, count]), reduce_op="sum").tolist()
        return {
            f"{stage}/{name}": value / total[-1] for name, value in zip(names, total, strict=False)
        }
