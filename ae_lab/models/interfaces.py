"""What the parts of an autoencoder promise each other.

    clean image ─▶ corruption ─▶ encoder ─▶ bottleneck ─▶ decoder ─▶ reconstruction

A part is any `torch.nn.Module` that has what its protocol lists; it need not inherit from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Generator, Tensor


class Encoder(Protocol):
    """Image to features; built as `encoder(shape)` with the shape (C, H, W) of its input.

    `provides` names what it hands to the decoder past the code: `skips` (maps of each size) or
    `indices` (places of the maxima of each pooling). Most encoders provide nothing.

    One that takes images of any size may have a `stride`: how many pixels lie between one place of
    its maps and the next. It pads them, at the end, to a multiple of that. `sees_all` then says
    whether each place depends on all of the image, as with attention.
    """

    features: tuple[int, ...]  # shape of what it returns, without the batch
    provides: frozenset[str]

    def __call__(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Images (B, C, H, W) → features (B, *features), and what bypasses the code."""


class Bottleneck(Protocol):
    """Features to code; built as `bottleneck(features, classes)` with the shape of the features
    and the number of labels."""

    shape: tuple[int, ...]  # of the code, without the batch: (latent,) or (latent, h, w)
    outputs: frozenset[str]  # names of the tensors it returns for the loss
    is_stochastic: bool  # whether it draws its code
    has_prior: bool  # whether it has `sample`

    def __call__(
        self, features: Tensor, label: Tensor, draw: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (B, ...) and labels (B, K) → code (B, *shape) and `outputs` by name.

        A stochastic bottleneck draws its code if `draw`, and else returns its mean. One that draws
        several codes for each image puts them on a first axis: (n, B, *shape).
        """

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K) from the prior, (n, *shape)."""


class Decoder(Protocol):
    """Code to raw values; built as `decoder(code, shape)` with the shape of its input, labels
    included, and the shape (C, H, W) of the image.

    `requires` names what it needs past the code: what the encoder `provides`.
    """

    requires: frozenset[str]

    def __call__(self, code: Tensor, bypass: Sequence[Tensor]) -> Tensor:
        """Code (B, ...) → raw values (B, C, H, W), which an output map turns into pixels.

        They may have more rows and columns than the image, at the end: the model leaves these out.
        """


@dataclass(slots=True)
class AutoencoderOutput:
    """One forward pass, all that a loss term may look at."""

    clean: Tensor  # (B, C, H, W), pixels in [0, 1]
    corrupted: Tensor  # (B, C, H, W), what the encoder was given
    label: Tensor  # (B, K)
    # A bottleneck that draws several codes for each image puts them on a first axis of these three:
    code: Tensor  # (B, latent) or (B, latent, h, w)
    raw: Tensor  # (B, C, H, W), the decoder's values before the output map
    reconstruction: Tensor  # (B, C, H, W), pixels, of the dtype of clean
    bottleneck: dict[str, Tensor] = field(default_factory=dict)  # its `outputs`
    bypass: tuple[Tensor, ...] = ()  # (B, ...) each, what reaches the decoder past the code
    side: Tensor | None = None  # (B, 1, H, W) or (B, 1, 1, 1), what is known of the corruption

    @property
    def num_decoder_inputs(self) -> int:
        """How many values, of code, skip connections and indices, reach the decoder per image."""
        return sum(part[0].numel() for part in (self.code, *self.bypass))


class LossTerm(Protocol):
    """One addend of the objective. `models.objectives.LossTerm` is a base class for it."""

    requires: frozenset[str]  # of the bottleneck's outputs
    weight: float

    def __call__(self, output: AutoencoderOutput, model) -> Tensor:
        """A scalar, unweighted: summed over dimensions, the mean over the batch."""
