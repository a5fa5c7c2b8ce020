"""What every family of nets shares: activations, output maps, labels, first weights, modes."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from hydra.utils import get_class
from torch import Tensor, nn

from ae_lab.core.errors import UserError, check_choice

ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "leaky_relu": nn.LeakyReLU,
}


def sigmoid(raw: Tensor, corrupted: Tensor, side: Tensor | None = None) -> Tensor:
    """1 / (1 + exp(-raw))."""
    return raw.sigmoid()


def tanh(raw: Tensor, corrupted: Tensor, side: Tensor | None = None) -> Tensor:
    """tanh rescaled from [-1, 1] to the pixel range: (tanh(raw) + 1) / 2."""
    return (raw.tanh() + 1) / 2


def linear_output(raw: Tensor, corrupted: Tensor, side: Tensor | None = None) -> Tensor:
    return raw


def residual(raw: Tensor, corrupted: Tensor, side: Tensor | None = None) -> Tensor:
    """corrupted + raw: the decoder predicts the change. Source: Zhang et al., IEEE TIP, 2017."""
    return corrupted + raw


def composite(raw: Tensor, corrupted: Tensor, side: Tensor | None = None) -> Tensor:
    """corrupted + side·raw: with a mask as the side, the decoder predicts the change of what is
    missing, and known pixels stay as they are. Without a side the image is as it was.

    Source: the composited image of Liu et al., "Image inpainting for irregular holes", ECCV 2018.
    """
    return corrupted if side is None else corrupted + side.to(raw.dtype) * raw


OUTPUTS = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "linear": linear_output,
    "residual": residual,
    "composite": composite,
}
CHANGE_INPUT = (residual, composite)  # need the corrupted image beside the decoder's values


def activation(name: str) -> nn.Module:
    """A new activation module, by a name of `ACTIVATIONS` or the path of a class: `torch.nn.Mish`.

    Raises:
        UserError: unknown name.
    """
    if "." not in str(name):
        return check_choice("activation", name, ACTIVATIONS)()
    try:
        return get_class(name)()
    except Exception as error:
        raise UserError(
            f"activation={name} is not a class that Python finds and that takes no arguments"
        ) from error


def output_map(name: str) -> Callable[..., Tensor]:
    """From a decoder's raw values and the corrupted image, (B, C, H, W) each, and what is known of
    the corruption, (B, 1, H, W) or (B, 1, 1, 1), to pixels.

    Raises:
        UserError: unknown name.
    """
    return check_choice("output", name, OUTPUTS)


def linear(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """A dense layer whose weights start uniform as Glorot & Bengio (AISTATS 2010) have it, times
    `gain`, so that signals neither die nor explode on their way; its biases start at zero.

    PyTorch's own start is some three times smaller where a layer narrows to a small code.
    """
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def upsampling_conv(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """A 3×3 transposed convolution that doubles height and width.

    Its weights and biases start uniform within ±1/√n, n = inputs·9/4 being how many values reach an
    output on average, as those of PyTorch's other convolutions do. PyTorch takes n = outputs·9 for
    this one, so that few channels start many times too large and saturate a tanh, which then
    has no gradient.
    """
    layer = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
    bound = 1 / math.sqrt(inputs * 9 / 4)
    for weights in layer.parameters():
        nn.init.uniform_(weights, -bound, bound)
    return layer


def join_side(corrupted: Tensor, side: Tensor | None) -> Tensor:
    """[x̃; c]: what is known of the corruption, (B, 1, H, W) or (B, 1, 1, 1), as one more channel of
    the images (B, C, H, W); without it, zeros."""
    side = corrupted.new_zeros(()) if side is None else side.to(corrupted.dtype)
    return torch.cat([corrupted, side.expand_as(corrupted[:, :1])], dim=1)


def join_label(code: Tensor, label: Tensor) -> Tensor:
    """z̃ = [z; y]: the label (B, K) beside the code (B, D) or, at every position, (B, D, h, w)."""
    if code.ndim == 4:
        label = label[:, :, None, None].expand(-1, -1, *code.shape[2:])
    return torch.cat([code, label.to(code.dtype)], dim=1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """A model, or a part of one, as in evaluation: no dropout, normalisation by running means."""
    training = [part for part in model.modules() if part.training]
    try:
        for part in training:
            part.training = False
        yield
    finally:
        for part in training:
            part.training = True
