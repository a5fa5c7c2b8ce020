"""What every corruption is made of."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_float


class Level:
    """How strong a corruption is: one number, or [low, high] to draw from uniformly for each image.

    Raises:
        UserError: not finite, below `low` or above `high`, or not in order.
    """

    def __init__(
        self, name: str, value: float | Sequence[float], low: float = 0.0, high: float = math.inf
    ):
        ends = (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )
        self.ends = [check_float(name, end, low, high) for end in ends]
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

    `tells` says whether there is a side: what is known of the corruption, and what the network is
    told with `model.side=true`. It is 0 where a pixel is as it was, and the greater the less is
    left of it: 1 where a mask lies, σ where noise of that deviation was added.

    >>> x = torch.rand(2, 1, 28, 28)
    >>> corrupted, side = Corruption()(x, torch.Generator())
    >>> torch.equal(corrupted, x), side
    (True, None)
    """

    tells = False

    def __init__(self, clip: bool = True):
        super().__init__()
        self.clip = clip

    def corrupt(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Images (B, C, H, W) in [0, 1] → corrupted ones, and the side. `x` itself must not change.

        The side is a map (B, 1, H, W), or (B, 1, 1, 1) where it is the same for a whole image; None
        of a corruption that tells nothing. All draws come from the generator, which lives on the
        images' device.
        """
        return x, None

    def forward(self, x: Tensor, generator: Generator) -> tuple[Tensor, Tensor | None]:
        both = self.corrupt(x, generator)
        if not isinstance(both, tuple):
            raise UserError(
                f"{type(self).__name__}.corrupt must return images and what is known of their "
                "corruption: `return corrupted, None` where that is nothing"
            )
        corrupted, side = both
        if self.clip and corrupted is not x:
            corrupted = corrupted.clamp_(0, 1)
        return corrupted, side


def is_map(side: Tensor | None) -> bool:
    """Whether a side tells pixels apart, as a mask does, and not images alone."""
    return side is not None and side.shape[2:] != (1, 1)


def level_side(x: Tensor, level: float | Tensor) -> Tensor:
    """The side (B, 1, 1, 1) that tells a level, a number or one for each image of x."""
    return torch.as_tensor(level, dtype=x.dtype, device=x.device).expand(len(x), 1, 1, 1)
