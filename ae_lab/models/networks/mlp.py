"""Fully connected encoder and decoder."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from ae_lab.core.errors import UserError, check_choice, check_float, check_int
from ae_lab.models.networks.layers import activation as make_activation
from ae_lab.models.networks.layers import linear

WIDTHS = {2: (500, 100), 3: (500, 250, 100)}
# ReLU: He et al. (ICCV 2015); sigmoid: Glorot & Bengio's factor 4.
GAINS = dict.fromkeys(("relu", "leaky_relu", "gelu", "silu"), 2**0.5) | {"sigmoid": 4.0}
NORMS = {"none": None, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def widths(depth: int, hidden: Sequence[int] | None) -> list[int]:
    """The encoder's hidden widths: `hidden` where given, else those that belong to `depth`.

    Raises:
        UserError: no widths belong to this depth, or one of `hidden` is not an integer >= 1.
    """
    if hidden is not None:
        given = [hidden] if isinstance(hidden, int | str) else list(hidden)
        return [check_int("hidden", width) for width in given]
    if depth not in WIDTHS:
        raise UserError(f"depth must be 2 or 3, got {depth}; set hidden=[...] for other sizes")
    return list(WIDTHS[depth])


def stack(sizes: Sequence[int], activation: str, norm: str, dropout: float) -> nn.Sequential:
    """Linear → norm → activation → dropout for each pair of neighbouring sizes."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        normalise = check_choice("norm", norm, NORMS)
        layers += [linear(inputs, outputs, GAINS.get(activation, 1.0))]
        layers += [normalise(outputs)] if normalise else []
        layers += [make_activation(activation)]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers)


def split_blocks(layers: nn.Sequential) -> list[nn.Module]:
    """Each dense layer with its normalisation and activation, without dropout."""
    starts = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
    blocks = [layers[start:end] for start, end in pairwise([*starts, len(layers)])]
    return [nn.Sequential(*(m for m in b if not isinstance(m, nn.Dropout))) for b in blocks]


class MLPEncoder(nn.Module):
    """Image (B, C, H, W) → features (B, hidden[-1]), and nothing beside them.

    Raises:
        UserError: impossible widths, activation, norm or dropout.
    """

    provides = frozenset()

    def __init__(
        self,
        shape: Sequence[int],
        *,
        depth: int = 2,
        hidden: Sequence[int] | None = None,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.widths = widths(depth, hidden)
        sizes = [prod(shape), *self.widths]
        self.features = (sizes[-1],)
        self.layers = stack(sizes, activation, norm, check_float("dropout", dropout, high=1.0))

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.layers(x.flatten(1)), ()

    def blocks(self) -> list[nn.Module]:
        """Its dense layers, from the image on; see `split_blocks`."""
        return split_blocks(self.layers)


class MLPDecoder(nn.Module):
    """Code, with its label where there is one, (B, n) → raw values (B, C, H, W).

    The hidden widths are the encoder's, mirrored.

    Raises:
        UserError: impossible widths, activation, norm or dropout.
    """

    requires = frozenset()

    def __init__(
        self,
        code: Sequence[int],
        shape: Sequence[int],
        *,
        depth: int = 2,
        hidden: Sequence[int] | None = None,
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.shape = tuple(shape)
        self.widths = widths(depth, hidden)
        sizes = [prod(code), *reversed(self.widths)]
        self.layers = stack(sizes, activation, norm, check_float("dropout", dropout, high=1.0))
        self.to_pixels = linear(sizes[-1], prod(shape))

    def forward(self, z: Tensor, bypass: Sequence[Tensor] = ()) -> Tensor:
        return self.to_pixels(self.layers(z.flatten(1))).unflatten(1, self.shape)

    def blocks(self) -> list[nn.Module]:
        """Its dense layers, from the code on; see `split_blocks`."""
        return [*split_blocks(self.layers), self.to_pixels]
