"""The LightningModule that trains layer by layer, and then all layers together."""

from bisect import bisect_right

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LRScheduler, SequentialLR

from ae_lab.core.errors import UserError, check_float
from ae_lab.core.hardware import widen
from ae_lab.core.randomness import generator
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import Batch
from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.networks import layers
from ae_lab.models.networks.layers import evaluating


class StackedAutoencoder(Autoencoder):
    """An autoencoder whose layers learn one after the other, before they learn together.

    Encoder and bottleneck are dense layers e_1 ... e_L, the decoder, from its end, d_1 ... d_L, so
    that d_l undoes e_l. The share `pretrain` of all steps is divided equally among L phases, to the
    nearest step. In phase l the layers below are fixed, and e_l and d_l alone minimise

        Σ over units of (d_l(e_l(c(h̃))) - h)², mean over the batch.

    h are the activations e_{l-1}(... e_1(x)) of the clean images, h̃ those of the corrupted ones;
    for l = 1 they are the images themselves, and d_1 ends in the output map. The `corruption` c of
    what a layer gets, without clipping, makes it a stack of denoising autoencoders. In the steps
    that are left all weights minimise the objective. A run that extends another pre-trains no more.

    Each phase has a schedule of the learning rate of its own. Weights of other layers have no
    gradient, so that they do not decay either and the optimiser's moments of them stay. Dropout
    takes part when all layers learn. `train/loss` is what is minimised at the time, `train/layer_l`
    that of phase l; validation looks at the whole network.

    Source: Hinton & Salakhutdinov, Science 313 (2006) 504; Bengio et al., NeurIPS 2006; Vincent et
    al., JMLR 11 (2010) 3371, with a corruption.

    Raises:
        UserError: a part cannot be built as asked, or is not made of dense layers that mirror each
            other.
    """

    def __init__(self, pretrain: float, corruption: Corruption, **parts):
        super().__init__(**parts)
        self.pretrain = check_float("model.pretrain", pretrain, high=1.0)
        self.corruption = corruption
        # Lists, whose modules torch does not register a second time.
        self.encoders = [*self.encoder.blocks(), self.bottleneck]
        self.decoders = self.decoder.blocks()[::-1]
        self.pretrain_updates: int | None = None  # known when training begins
        self.fixed: list[nn.Parameter] = []  # what this step leaves as it is

    def check_parts(self) -> None:
        super().check_parts()
        if not all(hasattr(part, "blocks") for part in (self.encoder, self.decoder)):
            raise UserError("this model trains dense layers one by one: take body=mlp")
        if self.side:
            raise UserError("layers learn of no side: leave out model.side=true")
        if self.encoder.widths != self.decoder.widths:
            raise UserError(
                f"the encoder has layers of {self.encoder.widths} units, the decoder of "
                f"{self.decoder.widths}, which must be the same: set hidden=[...] for both"
            )

    # What is trained when

    @property
    def phase_starts(self) -> list[int]:
        """The steps at which each layer's phase begins, and that of all layers."""
        updates, count = self.pretrain_updates or 0, len(self.encoders)
        return [round(updates * number / count) for number in range(count + 1)]

    @property
    def layer(self) -> int | None:
        """The place of the layer that is trained now, from 0; None for all."""
        place = bisect_right(self.phase_starts, self.num_updates) - 1
        return place if place < len(self.encoders) else None

    @property
    def is_pretraining(self) -> bool:
        return self.layer is not None

    def build_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        if self.pretrain_updates is None:  # else a checkpoint says
            self.pretrain_updates = round(self.pretrain * self.total_updates)
        ends = [*self.phase_starts[1:], self.total_updates]
        lengths = [end - start for start, end in zip(self.phase_starts, ends, strict=True)]
        schedulers = [self.make_scheduler(optimizer, total_steps=max(1, n)) for n in lengths]
        return SequentialLR(optimizer, schedulers, ends[:-1])

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["progress"]["pretrain_updates"] = self.pretrain_updates

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        super().on_load_checkpoint(checkpoint)
        self.pretrain_updates = checkpoint["progress"]["pretrain_updates"]

    # One layer

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        if (layer := self.layer) is None:
            self.fixed = []
            return super().compute_losses(batch)
        trained = {*self.encoders[layer].parameters(), *self.decoders[layer].parameters()}
        self.fixed = [weight for weight in self.parameters() if weight not in trained]
        error = self.compute_layer_error(layer, batch)
        # Training on several devices waits for a gradient of each weight.
        nothing = 0 * sum(weight.sum() for weight in self.fixed)
        return {"loss": error + nothing, f"layer_{layer + 1}": error}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        for weight in self.fixed:
            weight.grad = None

    def compute_layer_error(self, layer: int, batch: Batch) -> Tensor:
        """Squared error of a layer's input as its decoder restores it, Σ over units, mean over the
        batch."""
        clean = corrupted = self.encode_below(layer, batch.clean, batch.label)
        if batch.corrupted is not batch.clean:
            corrupted = self.encode_below(layer, batch.corrupted, batch.label)
        rng = generator(self.seed, "layer", self.steps, self.global_rank, device=self.device)
        images = corrupted if layer == 0 else corrupted[:, None, None]  # (B, 1, 1, units)
        changed, _ = self.corruption.corrupt(images, rng)
        corrupted = changed.view_as(corrupted)
        code = self.encode_layer(layer, corrupted, batch.label)
        restored = self.decoders[layer](code)
        if layer == 0:
            restored = self.output(restored, corrupted.flatten(1))
        clean = widen(clean).flatten(1)
        return F.mse_loss(widen(restored), clean, reduction="sum") / len(clean)

    @torch.no_grad()
    def encode_below(self, layer: int, images: Tensor, label: Tensor) -> Tensor:
        """What a layer gets: images (B, C, H, W), or the activations (B, units) of the last one."""
        values = images
        with evaluating(self.encoder):
            for below in range(layer):
                values = self.encode_layer(below, values, label)
        return values

    def encode_layer(self, layer: int, values: Tensor, label: Tensor) -> Tensor:
        """What a layer's decoder gets: activations, or the mean code and its label."""
        if layer == 0 and self.condition_encoder:
            values = layers.join_label(values, label)
        if layer + 1 < len(self.encoders):
            return self.encoders[layer](values.flatten(1))
        code, _ = self.bottleneck(values, label, draw=False)
        return layers.join_label(code, label) if self.conditional else code
