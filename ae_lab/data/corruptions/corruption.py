"""What every corruption is made of."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_float


class Level:
    """How strong a corruption is: one number, or [low, high] to draw from uniformly for each image.

    Raises:
        UserError: not finite, below 0 or above `high`, or not in order.
    """

    def __init__(self, name: str, value: float | Sequence[float], high: float = math.inf):
        ends = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )
        self.ends = [check_float(name, end, high=high) for end in ends]
        if len(self.ends) not in (1, 2) or self.ends[0] > self.ends[-1]:
            raise UserError(f"{name} must be a number or [lowest, highest], got {value}")

    def draw(self, x: Tensor, generator: Generator) -> float | Tensor:
        """The number itself, or one for each image, (B, 1, 1, 1)."""
        low, *high = self.ends
        if not high:
            return low
        u = torch.rand(len(x), 1, 1, 1, generator=generator, device=x.device)
        return low + (high[0] - low) * u


class Corruption(nn.Module):
    """No corruption: the image as it is. The base of all others, which override `corrupt`.

    With `clip` a corrupted image is limited to [0, 1], as a camera would.

    >>> x = torch.rand(2, 1, 28, 28)
    >>> torch.equal(Corruption()(x, torch.Generator()), x)
    True
    """

    def __init__(self, clip: bool = True):
        super().__init__()
        self.clip = clip

    def corrupt(self, x: Tensor, generator: Generator) -> Tensor:
        """Images (B, C, H, W) in [0, 1] → corrupted ones. `x` itself must not change.

        All draws come from the generator, which lives on the images' device.
        """
        return x

    def forward(self, x: Tensor, generator: Generator) -> Tensor:
        corrupted = self.corrupt(x, generator)
        return corrupted.clamp_(0, 1) if self.clip and corrupted is not x else corrupted
