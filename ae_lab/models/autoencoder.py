"""The LightningModule that every family shares: encoder → bottleneck → decoder → output map."""

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import derive
from ae_lab.data.images import Batch
from ae_lab.models.interfaces import AutoencoderOutput, Bottleneck, Decoder, Encoder
from ae_lab.models.networks import layers
from ae_lab.models.objectives import LossTerm, Objective
from ae_lab.models.priors import Prior
from ae_lab.models.steps import SteppedModule

# What weights are called in checkpoints of older runs, and now.
RENAMED_WEIGHTS = {
    "bottleneck.prior_head.": "bottleneck.prior.head.",
    "bottleneck.top_head.": "bottleneck.above.head.",
}


class Autoencoder(SteppedModule):
    """An autoencoder made of parts; `conf/model/` names families of them.

    f, s = encoder([x̃; c; y]),  z = bottleneck(f, y)
    reconstruction = output(decoder([z; y], s), x̃, c)

    where x̃ is the corrupted image, y the label, which goes to the decoder if `conditional` and to
    the encoder if `condition_encoder`, c what is known of the corruption, a mask or a level, which
    goes to the encoder if `side`, and s what some encoders provide past the code. Parts come
    as functions of what only their neighbours know; `interfaces` says which. `optimizer` is a
    function of the parameters, `scheduler` of the optimiser and the number of steps.

    `output` names the map to pixels. Without it the objective's likelihood decides, where only one
    fits it, else `default_output`.

    `steps` has how it is trained.

    Raises:
        UserError: a part cannot be built as asked.
    """

    has_critic = False  # which terms of the objective may ask

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        encoder: Callable[..., Encoder],
        bottleneck: Callable[..., Bottleneck],
        decoder: Callable[..., Decoder],
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., LRScheduler],
        metrics: Mapping[str, Metric],
        output: str | None = None,
        default_output: str = "sigmoid",
        conditional: bool = False,
        condition_encoder: bool = False,
        side: bool = False,
        seed: int = 0,
    ):
        super().__init__(seed)
        torch.manual_seed(derive(seed, "weights"))
        self.conditional, self.condition_encoder = conditional, condition_encoder
        self.side, self.shape, self.classes = side, tuple(shape), classes
        channels, *size = shape
        # Of what the encoder gets.
        self.input_shape = (channels + side + classes * condition_encoder, *size)
        self.encoder = encoder(self.input_shape)
        self.bottleneck = bottleneck(self.encoder.features, classes)
        for part in self.bottleneck.modules():
            if isinstance(part, Prior):
                part.connect(self)
        first, *rest = self.bottleneck.shape
        self.decoder = decoder((first + classes * conditional, *rest), shape)
        self.objective = objective
        likelihood = objective.likelihood
        chosen = output or (likelihood and likelihood.output) or default_output
        self.output = layers.output_map(chosen)
        self.metrics = nn.ModuleDict(metrics)
        self.check_parts()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        scheduler(optimizer(self.parameters()), total_steps=2)  # refuses what is impossible, now

    def check_parts(self) -> None:
        """Check that each part gets what it requires from the others.

        Raises:
            UserError: one does not.
        """
        if self.encoder.provides != self.decoder.requires:
            provided, required = (
                " and ".join(sorted(names)) or "nothing"
                for names in (self.encoder.provides, self.decoder.requires)
            )
            raise UserError(
                f"the encoder provides {provided}, the decoder requires {required}: configure "
                "model.encoder and model.decoder the same way (down=pool with up=unpool, or skips)"
            )
        if self.output is layers.composite and not self.side:
            raise UserError(
                "output=composite changes what the side marks: set model.side=true, with a noise "
                "that tells one, as noise=mask, or take output=residual"
            )
        if missing := self.objective.requires - self.bottleneck.outputs:
            raise UserError(
                f"the objective requires {' and '.join(sorted(missing))} of the bottleneck, and "
                f"{type(self.bottleneck).__name__} has none: take model=vae (ladder_vae for "
                "objective=elbo_ladder, vqvae for objective=quantized), or objective=mse"
            )
        for name, metric in self.metrics.items():
            if missing := getattr(metric, "requires", frozenset()) - self.bottleneck.outputs:
                raise UserError(
                    f"the metric {name} requires {' and '.join(sorted(missing))} of the "
                    f"bottleneck, and {type(self.bottleneck).__name__} has none: take "
                    "metrics=[default], or model=vqvae for codebook, model=vae for codes"
                )
        for term in self.objective.modules():
            if isinstance(term, LossTerm):
                term.check(self)
        if self.objective.requires and self.decoder.requires:
            raise UserError(
                "this objective regularises the code, but "
                f"{' and '.join(sorted(self.decoder.requires))} bypass it: take a body whose "
                "decoder gets the code alone"
            )

    def encode(
        self, corrupted: Tensor, label: Tensor, draw: bool = False, side: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor], tuple]:
        """The code, the bottleneck's outputs, and what bypasses the code.

        Without a side the image is taken to be as it was: its side is 0 everywhere.
        """
        if self.side:
            corrupted = layers.join_side(corrupted, side)
        if self.condition_encoder:
            corrupted = layers.join_label(corrupted, label)
        features, bypass = self.encoder(corrupted)
        return *self.bottleneck(features, label, draw), bypass

    def decode(
        self,
        code: Tensor,
        label: Tensor,
        bypass: Sequence[Tensor] = (),
        size: Sequence[int] | None = None,
    ) -> Tensor:
        """Code (..., B, n) → the decoder's raw values (..., B, C, H, W), not yet pixels.

        `size` is the height and width of the image, that of training images unless given.
        """
        if several := code.shape[: -len(self.bottleneck.shape) - 1]:
            label = label.expand(*several, *label.shape).flatten(0, -2)
            return self.decode(code.flatten(0, 1), label).unflatten(0, (*several, -1))
        height, width = size or self.shape[1:]
        raw = self.decoder(layers.join_label(code, label) if self.conditional else code, bypass)
        return raw[..., :height, :width]

    def decode_images(self, code: Tensor, label: Tensor) -> Tensor:
        """The images (B, C, H, W) that codes alone make."""
        return self.output(self.decode(code, label), None)

    def forward(self, batch: Batch, draw: bool | None = None) -> AutoencoderOutput:
        """One pass. A stochastic bottleneck draws its code if `draw`; by default, in training."""
        draw = self.training if draw is None else draw
        encoded = self.encode(batch.corrupted, batch.label, draw, batch.side)
        return self.decode_batch(batch, *encoded)

    def decode_batch(
        self, batch: Batch, code: Tensor, outputs: dict[str, Tensor], bypass: tuple
    ) -> AutoencoderOutput:
        """The rest of a pass, from what `encode` returns."""
        raw = self.decode(code, batch.label, bypass, batch.corrupted.shape[2:])
        pixels = self.output(raw, batch.corrupted, batch.side).to(batch.clean.dtype)
        known = (batch.clean, batch.corrupted, batch.label)
        return AutoencoderOutput(*known, code, raw, pixels, outputs, bypass, batch.side)

    @property
    def can_generate(self) -> bool:
        """Whether codes alone make images: the code is a vector and all that the decoder needs."""
        return self.decodes_code_alone and len(self.bottleneck.shape) == 1

    @property
    def decodes_code_alone(self) -> bool:
        """Whether the code, a vector or maps, is all that an image is made of."""
        return not self.decoder.requires and self.output not in layers.CHANGE_INPUT

    @property
    def num_code_values(self) -> int:
        """How many values the code of an image has."""
        return prod(self.bottleneck.shape)

    @property
    def stride(self) -> int | None:
        """The encoder's, if the code is maps: pixels from one place of them to the next. Images may
        then have any size. None where they must have the size of those of the training."""
        return getattr(self.encoder, "stride", None) if len(self.bottleneck.shape) == 3 else None

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *arguments, **options):
        """Load weights, those of older runs too."""
        weights = dict(state_dict)
        for name in state_dict:
            for old, new in RENAMED_WEIGHTS.items():
                if name.startswith(old):
                    weights[new + name.removeprefix(old)] = weights.pop(name)
        return super().load_state_dict(weights, *arguments, **options)
