"""What every family of nets shares: activations, the map from raw values to pixels, labels."""

import torch
from torch import Tensor, nn

from ae_lab.errors import choose

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


class TanhPixels(nn.Module):
    """tanh rescaled from [-1, 1] to the pixel range: (tanh(raw) + 1) / 2."""

    def forward(self, raw: Tensor) -> Tensor:
        return (raw.tanh() + 1) / 2


OUTPUTS = {"sigmoid": nn.Sigmoid, "tanh": TanhPixels, "linear": nn.Identity}


def activation(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        UserError: unknown name.
    """
    return choose("activation", name, ACTIVATIONS)()


def output(name: str) -> nn.Module:
    """The map from a decoder's raw values to pixels in [0, 1]; `linear` leaves them as they are.

    Raises:
        UserError: unknown name.
    """
    return choose("output", name, OUTPUTS)()


def linear(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """A dense layer whose weights start uniform as Glorot & Bengio (AISTATS 2010) have it, times
    `gain`, so that signals neither die nor explode on their way; its biases start at zero.

    PyTorch's own start is some three times smaller where a layer narrows to a small code.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def join_label(code: Tensor, label: Tensor) -> Tensor:
    """z̃ = [z; y]: the label (B, K) beside the code (B, D) or, at every position, (B, D, h, w)."""
    if code.ndim == 4:
        label = label[:, :, None, None].expand(-1, -1, *code.shape[2:])
    return torch.cat([code, label.to(code.dtype)], dim=1)
