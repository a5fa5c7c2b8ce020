"""A U-Net of residual blocks without normalisation, made to remove noise.

Sources: Ronneberger, Fischer & Brox, MICCAI 2015 (the U); Zhang et al., IEEE TPAMI 44 (2022) 6360
(DRUNet: residual blocks, sums instead of concatenations); Lim et al., CVPRW 2017 (EDSR: no
normalisation); Zhang, Zuo & Zhang, IEEE TIP 27 (2018) 4608 (FFDNet: pixels unshuffled).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import check_int
from ae_lab.models.networks.conv import pad_to, reduced_size, to_maps
from ae_lab.models.networks.layers import activation as make_activation


class ResidualBlock(nn.Module):
    """x + conv(activation(conv(x))), 3×3, (B, C, h, w) → the same."""

    def __init__(self, channels: int, activation: str):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            make_activation(activation),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class SelfAttention(nn.Module):
    """x + W·softmax(QKᵀ/√d)·V over all places of a map (B, C, h, w), after a layer norm.

    W starts at zero, so that a network with attention starts as the one without.

    Source: Vaswani et al., NeurIPS 2017; Wang et al., CVPR 2018 (on images).
    """

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads if channels % heads == 0 else 1
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        split = self.qkv(self.norm(x)).reshape(
            batch, 3, self.heads, channels // self.heads, height * width
        )
        q, k, v = split.transpose(3, 4).unbind(1)  # (B, heads, h·w, C / heads)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(x.shape))


def blocks(channels: int, count: int, activation: str) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels, activation) for _ in range(count)))


def widths(depth: int, width: int) -> list[int]:
    """Channels at each size, the finest first: width, 2·width, 4·width, ..."""
    return [check_int("width", width) << i for i in range(check_int("depth", depth))]


class UNetEncoder(nn.Module):
    """Image (B, C, H, W) → features (B, latent, H/s, W/s), s = unshuffle·2^depth, and finer maps.

    Each square of `unshuffle` pixels a side first becomes the channels of one place, so that all
    layers are on maps that many times smaller: at the same cost twice as many channels for 2.

    Raises:
        UserError: impossible depth, width, latent, blocks, unshuffle or activation.
    """

    provides = frozenset({"skips"})

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int,
        depth: int = 3,
        width: int = 32,
        blocks_per_stage: int = 2,
        activation: str = "relu",
        attention: bool = False,
        unshuffle: int = 1,
    ):
        super().__init__()
        count, sizes = check_int("blocks", blocks_per_stage), widths(depth, width)
        ends = [*sizes[1:], check_int("latent", latent)]
        self.unshuffle = check_int("unshuffle", unshuffle)
        self.stride, self.sees_all = unshuffle << depth, attention
        self.features = (latent, *reduced_size(shape, self.stride))
        self.stem = nn.Conv2d(shape[0] * unshuffle**2, sizes[0], 3, padding=1)
        self.stages = nn.ModuleList(blocks(size, count, activation) for size in sizes)
        self.down = nn.ModuleList(
            nn.Conv2d(size, end, 2, 2) for size, end in zip(sizes, ends, strict=True)
        )
        self.bottom = blocks(latent, count, activation)
        if attention:
            self.bottom.append(SelfAttention(latent))
        self.to(memory_format=torch.channels_last)  # how convolutions are fastest, CPU and GPU

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        bypass = []
        x = F.pixel_unshuffle(pad_to(x, self.stride), self.unshuffle)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for stage, down in zip(self.stages, self.down, strict=True):
            x = stage(x)
            bypass.append(x)
            x = down(x)
        return self.bottom(x), tuple(bypass)


class UNetDecoder(nn.Module):
    """Code (B, n, h, w) and the encoder's maps → raw values (B, C, h·s, w·s), zero at the start.

    Raises:
        UserError: impossible depth, width, blocks, unshuffle or activation.
    """

    requires = frozenset({"skips"})

    def __init__(
        self,
        code: Sequence[int],
        shape: Sequence[int],
        *,
        latent: int,
        depth: int = 3,
        width: int = 32,
        blocks_per_stage: int = 2,
        activation: str = "relu",
        unshuffle: int = 1,
    ):
        super().__init__()
        count, sizes = check_int("blocks", blocks_per_stage), widths(depth, width)
        self.unshuffle = check_int("unshuffle", unshuffle)
        self.start = to_maps(code, (latent, *reduced_size(shape, unshuffle << depth)), activation)
        begins = [*sizes[1:], latent]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(begin, size, 2, 2) for begin, size in zip(begins, sizes, strict=True)
        )
        self.stages = nn.ModuleList(blocks(size, count, activation) for size in sizes)
        self.to_pixels = nn.Conv2d(sizes[0], shape[0] * unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.to_pixels.weight)
        nn.init.zeros_(self.to_pixels.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, z: Tensor, bypass: Sequence[Tensor]) -> Tensor:
        x = self.start(z)
        parts = zip(reversed(self.up), reversed(self.stages), reversed(bypass), strict=True)
        for up, stage, skip in parts:
            x = stage(up(x) + skip)
        return F.pixel_shuffle(self.to_pixels(x), self.unshuffle)
