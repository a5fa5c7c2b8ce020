"""Convolutional encoder and decoder: halve the image stage by stage, and double it again.

One pair of classes makes the line from a dense bottleneck to skip connections: a code that is a
vector comes from and goes to a dense layer, one that is a stack of maps needs none.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.models.networks.layers import activation as make_activation
from ae_lab.models.networks.layers import upsampling_conv

NORMS = {"none": None, "batch": nn.BatchNorm2d, "layer": lambda channels: nn.GroupNorm(1, channels)}
DOWN = {"stride": 2, "pool": 1}  # the stride of the convolution
UP = ("transpose", "unpool")


def stage_widths(depth: int, hidden: Sequence[int] | None, last: int | None) -> list[int]:
    """Channels after each halving: `hidden` where given, else 32, 64, ...; the last may differ.

    Raises:
        UserError: depth, a width, or the last one is not an integer >= 1.
    """
    if hidden is not None and not len(hidden):
        raise UserError("hidden=[] has no width: name one for each halving, as in hidden=[32,64]")
    given = [32 << i for i in range(check_int("depth", depth))] if hidden is None else hidden
    widths = [check_int("hidden", width) for width in given]
    return widths if last is None else [*widths[:-1], check_int("latent", last)]


def pad_to(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`."""
    height, width = x.shape[2:]
    missing = (0, -width % multiple, 0, -height % multiple)
    return F.pad(x, missing, mode="replicate") if any(missing) else x


def reduced_size(shape: Sequence[int], stride: int) -> tuple[int, int]:
    """Height and width of an image (C, H, W), padded and made smaller by a factor."""
    return tuple(-(-side // stride) for side in shape[1:])


def bypass_names(indices: bool, skips: bool) -> set[str]:
    """What bypasses the code, by name.

    Raises:
        UserError: both: maps that were joined with others have no indices to be unpooled to.
    """
    if indices and skips:
        raise UserError("skips=true does not go with max-pooling: take down=stride, up=transpose")
    return {"indices"} if indices else {"skips"} if skips else set()


def normalise_and_activate(channels: int, activation: str, norm: str) -> list[nn.Module]:
    """What follows a convolution: normalisation, if any, and the activation."""
    normalise = check_choice("norm", norm, NORMS)
    return [*([normalise(channels)] if normalise else []), make_activation(activation)]


class ConvEncoder(nn.Module):
    """Image (B, C, H, W) → features (B, widths[-1], H/2^d, W/2^d) after d = len(widths) stages.

    A stage is a 3×3 convolution with stride 2, or with stride 1 and 2×2 max-pooling (`down`).
    Beside the features it returns what the decoder is to get past the code: with `skips` each
    stage's output but the last, with pooling the indices of the maxima.

    Source: Masci et al., ICANN 2011; Zeiler & Fergus, ECCV 2014 (the indices of the maxima).

    Raises:
        UserError: impossible depth, widths, activation, norm or down.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        depth: int = 3,
        hidden: Sequence[int] | None = None,
        last: int | None = None,
        activation: str = "relu",
        norm: str = "none",
        down: str = "stride",
        skips: bool = False,
    ):
        super().__init__()
        widths = stage_widths(depth, hidden, last)
        stride = check_choice("down", down, DOWN)
        self.stride, self.sees_all = 1 << len(widths), norm == "layer"
        self.pools, self.skips = down == "pool", skips
        self.provides = bypass_names(self.pools, skips)
        self.features = (widths[-1], *reduced_size(shape, self.stride))
        self.stages = nn.ModuleList()
        for inputs, outputs in zip([shape[0], *widths], widths, strict=False):
            convolution = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
            self.stages.append(
                nn.Sequential(convolution, *normalise_and_activate(outputs, activation, norm))
            )

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The features, and what bypasses the code, the finest first."""
        bypass = []
        x = pad_to(x, self.stride)
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)
            if self.pools:
                x, indices = F.max_pool2d(x, 2, return_indices=True)
                bypass.append(indices)
            if self.skips and number < len(self.stages):
                bypass.append(x)
        return x, tuple(bypass)


class ConvDecoder(nn.Module):
    """Code, a vector (B, n) or maps (B, n, h, w), → raw values (B, C, h·2^d, w·2^d).

    A stage is a 3×3 transposed convolution with stride 2 and output padding 1, or max-unpooling to
    the indices that the encoder provides and a 3×3 convolution (`up`). With `skips` each stage but
    the first also gets the encoder's output of its size. Widths are the encoder's, mirrored.

    Raises:
        UserError: impossible depth, widths, activation, norm or up.
    """

    def __init__(
        self,
        code: Sequence[int],
        shape: Sequence[int],
        *,
        depth: int = 3,
        hidden: Sequence[int] | None = None,
        last: int | None = None,
        activation: str = "relu",
        norm: str = "none",
        up: str = "transpose",
        skips: bool = False,
    ):
        super().__init__()
        widths = stage_widths(depth, hidden, last)
        check_choice("up", up, dict.fromkeys(UP))
        self.unpools, self.skips = up == "unpool", skips
        self.requires = bypass_names(self.unpools, skips)
        self.start = to_maps(code, (widths[-1], *reduced_size(shape, 1 << len(widths))), activation)
        self.stages = nn.ModuleList()
        ends = [*reversed(widths[:-1]), shape[0]]
        for number, (inputs, outputs) in enumerate(zip(reversed(widths), ends, strict=True)):
            inputs += inputs if skips and number else 0
            layer = (
                nn.Conv2d(inputs, outputs, 3, padding=1)
                if self.unpools
                else upsampling_conv(inputs, outputs)
            )
            rest = (
                normalise_and_activate(outputs, activation, norm) if number < len(ends) - 1 else []
            )
            self.stages.append(nn.Sequential(layer, *rest))

    def forward(self, z: Tensor, bypass: Sequence[Tensor] = ()) -> Tensor:
        """`bypass` is what the encoder returned with its features."""
        x, waiting = self.start(z), list(bypass)
        needed = len(self.stages) * self.unpools + (len(self.stages) - 1) * self.skips
        if len(waiting) < needed:
            raise UserError(
                f"the decoder takes {needed} maps past the code, and the encoder provides "
                f"{len(waiting)}: give both the same depth and hidden"
            )
        for number, stage in enumerate(self.stages):
            if self.skips and number:
                x = torch.cat([x, waiting.pop()], dim=1)
            if self.unpools:
                x = F.max_unpool2d(x, waiting.pop(), 2)
            x = stage(x)
        return x


def to_maps(code: Sequence[int], maps: Sequence[int], activation: str) -> nn.Module:
    """From a code of shape `code` to maps of shape (C, h, w)."""
    if len(code) == 1:
        dense = nn.Linear(code[0], prod(maps))
        return nn.Sequential(dense, nn.Unflatten(1, tuple(maps)), make_activation(activation))
    return nn.Identity() if code[0] == maps[0] else nn.Conv2d(code[0], maps[0], 1)
