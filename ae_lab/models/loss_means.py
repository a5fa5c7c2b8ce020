"""Mean losses of an epoch."""

from dataclasses import dataclass, field

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor


@dataclass
class LossMeans:
    """The mean of each loss over the images of an epoch that have it: sums on the device, and how
    many images are in them."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    num_images: dict[str, int] = field(default_factory=dict)

    def add(self, means: dict[str, Tensor], num_images: int) -> None:
        """Add a batch's mean losses."""
        for name, value in means.items():
            value = value.detach()
            total = self.sums.get(name)
            self.sums[name] = (
                value * num_images if total is None else total.add(value, alpha=num_images)
            )
            self.num_images[name] = self.num_images.get(name, 0) + num_images

    def compute(self, stage: str, strategy: Strategy) -> dict[str, float]:
        """The means over all ranks, as `stage/name`. All ranks have to call it."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name] for name in names]).double()
        counts = sums.new_tensor([self.num_images[name] for name in names])
        total, count = strategy.reduce(torch.stack([sums, counts]), reduce_op="sum").tolist()
        return {f"{stage}/{n}": s / c for n, s, c in zip(names, total, count, strict=True)}
