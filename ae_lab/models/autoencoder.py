"""The LightningModule that every family shares: encoder → bottleneck → decoder → output map."""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite, prod

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from ae_lab.core.errors import Diverged, UserError
from ae_lab.core.hardware import full_precision
from ae_lab.core.randomness import derive, reseed
from ae_lab.data.images import Batch
from ae_lab.models.interfaces import AutoencoderOutput, Bottleneck, Decoder, Encoder
from ae_lab.models.loss_means import LossMeans
from ae_lab.models.networks import layers
from ae_lab.models.objectives import LossTerm, Objective
from ae_lab.models.priors import Prior
from ae_lab.models.ranks import share_buffers

# What weights are called in checkpoints of older runs, and now.
RENAMED_WEIGHTS = {
    "bottleneck.prior_head.": "bottleneck.prior.head.",
    "bottleneck.top_head.": "bottleneck.above.head.",
}


class Autoencoder(pl.LightningModule):
    """An autoencoder made of parts; `conf/model/` names families of them.

    f, s = encoder([x̃; c; y]),  z = bottleneck(f, y)
    reconstruction = output(decoder([z; y], s), x̃)

    where x̃ is the corrupted image, y the label, which goes to the decoder if `conditional` and to
    the encoder if `condition_encoder`, c what is known of the corruption, a mask or a level, which
    goes to the encoder if `side`, and s what some encoders provide past the code. Parts come
    as functions of what only their neighbours know; `interfaces` says which. `optimizer` is a
    function of the parameters, `scheduler` of the optimiser and the number of steps.

    `output` names the map to pixels. Without it the objective's likelihood decides, where only one
    fits it, else `default_output`.

    Everything random in a training step is drawn from (seed, "step", s, rank). `steps` s counts
    batches, `num_updates` steps of the optimiser: fewer, where gradients of several batches are
    accumulated. Both travel in checkpoints.

    Raises:
        UserError: a part cannot be built as asked.
    """

    has_critic = False  # which terms of the objective may ask
    is_pretraining = False  # whether parts are trained alone, which says little of the whole

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
        super().__init__()
        torch.manual_seed(derive(seed, "weights"))
        self.seed, self.conditional, self.condition_encoder = seed, conditional, condition_encoder
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
        self.steps, self.num_updates, self.total_updates = 0, 0, 1
        self.max_updates: int | None = None  # after which to stop, before the last epoch
        self.num_decoder_inputs = 0  # per image, once known
        self.train_losses, self.eval_losses = LossMeans(), LossMeans()
        # By their names in logs: of this epoch's last validation, and of the last whole epoch.
        self.val_means: dict[str, float] = {}
        self.epoch_means: dict[str, float] = {}

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
        pixels = self.output(raw, batch.corrupted).to(batch.clean.dtype)
        known = (batch.clean, batch.corrupted, batch.label)
        return AutoencoderOutput(*known, code, raw, pixels, outputs, bypass, batch.side)

    @property
    def can_generate(self) -> bool:
        """Whether codes alone make images: the code is a vector and all that the decoder needs."""
        return self.decodes_code_alone and len(self.bottleneck.shape) == 1

    @property
    def decodes_code_alone(self) -> bool:
        """Whether the code, a vector or maps, is all that an image is made of."""
        return not self.decoder.requires and self.output is not layers.residual

    @property
    def num_code_values(self) -> int:
        """How many values the code of an image has."""
        return prod(self.bottleneck.shape)

    @property
    def stride(self) -> int | None:
        """The encoder's, if the code is maps: pixels from one place of them to the next. Images may
        then have any size. None where they must have the size of those of the training."""
        return getattr(self.encoder, "stride", None) if len(self.bottleneck.shape) == 3 else None

    @property
    def monitor(self) -> str:
        """The number by which the best checkpoint is chosen: the first metric, or the loss of a
        stochastic model, whose bound no metric measures."""
        bound = self.bottleneck.is_stochastic and self.objective.requires
        return "val/loss" if bound else f"val/{next(iter(self.metrics))}"

    @property
    def monitor_is_better_higher(self) -> bool:
        """Whether the monitored number is better the higher it is."""
        name = self.monitor.removeprefix("val/")
        return name in self.metrics and bool(self.metrics[name].higher_is_better)

    @property
    def progress(self) -> float:
        """The share of all steps of the optimiser that are done when this one is."""
        return (self.num_updates + 1) / self.total_updates

    # Training

    def build_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimisers of all weights, the autoencoder's first."""
        return [self.make_optimizer(self.parameters())]

    def build_scheduler(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        """The schedule of the learning rate over all steps."""
        return self.make_scheduler(optimizer, total_steps=self.total_updates)

    def configure_optimizers(self):
        updates = max(1, int(self.trainer.estimated_stepping_batches))
        self.total_updates = min(updates, self.max_updates or updates)
        optimizers = self.build_optimizers()
        schedulers = [self.build_scheduler(optimizer) for optimizer in optimizers]
        return optimizers, [{"scheduler": one, "interval": "step"} for one in schedulers]

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        """Clip gradients; Lightning will not where the optimiser's step is fused."""
        if gradient_clip_val is None:
            return
        if scaler := getattr(self.trainer.precision_plugin, "scaler", None):
            scaler.unscale_(optimizer)
        by_value = gradient_clip_algorithm == "value"
        clip = nn.utils.clip_grad_value_ if by_value else nn.utils.clip_grad_norm_
        clip([p for group in optimizer.param_groups for p in group["params"]], gradient_clip_val)

    def is_last_of_update(self, batch_idx: int) -> bool:
        """Whether the optimiser steps after this batch, and no gradient is kept for the next."""
        number, every = batch_idx + 1, self.trainer.accumulate_grad_batches
        return number % every == 0 or number == self.trainer.num_training_batches

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        reseed(self.device, self.seed, "step", self.steps, self.global_rank)
        losses = self.compute_losses(batch)
        self.count_batch(batch, batch_idx, losses)
        return losses["loss"]

    def compute_losses(self, batch: Batch) -> dict[str, Tensor]:
        """A batch's `loss`, and its terms by name."""
        loss, terms = self.objective(self(batch), self)
        return {"loss": loss, **terms}

    def count_batch(self, batch: Batch, batch_idx: int, losses: dict[str, Tensor]) -> None:
        """Note that a batch is done, and its losses."""
        self.steps += 1
        self.num_updates += self.is_last_of_update(batch_idx)
        self.train_losses.add(losses, len(batch.index))

    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        if self.num_updates == self.max_updates:
            self.trainer.should_stop = True
        due = self.num_updates % self.trainer.log_every_n_steps == 0
        if due and self.is_last_of_update(batch_idx):
            loss = outputs["loss"].item()
            self.check_finite(loss, "loss")
            self.log("train/batch_loss", loss, prog_bar=True, batch_size=len(batch.index))
            self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self) -> None:
        means = self.train_losses.compute("train", self.trainer.strategy)
        for name, value in means.items():
            self.check_finite(value, name)
        # Not by self.log, which writes after a checkpoint of this epoch is saved: a run that is
        # killed in between would go on without these.
        for logger in self.trainer.loggers:
            logger.log_metrics(means, step=self.num_updates - 1)
        self.epoch_means = self.val_means | means
        self.train_losses, self.val_means = LossMeans(), {}

    # Validation and test: in float32, so that metrics do not depend on the training's precision.
    # Metrics look at the mean code's reconstruction, losses at codes drawn alike in every epoch.

    def on_validation_epoch_start(self) -> None:
        share_buffers(self)
        self.eval_losses = LossMeans()

    def on_test_epoch_start(self) -> None:
        self.eval_losses = LossMeans()

    def evaluate_batch(self, batch: Batch, batch_idx: int) -> None:
        with full_precision(self.device):
            output = sampled = self(batch, draw=False)
            reseed(self.device, "evaluate", batch_idx, self.global_rank)  # terms may draw, too
            if self.bottleneck.is_stochastic:
                sampled = self(batch, draw=True)
            loss, terms = self.objective(sampled, self)
            for metric in self.metrics.values():
                extra = {name: output.bottleneck[name] for name in getattr(metric, "requires", ())}
                metric.update(output.reconstruction, output.clean, **extra)
        self.eval_losses.add({"loss": loss, **terms}, len(batch.index))
        self.num_decoder_inputs = output.num_decoder_inputs

    def compute_means(self, stage: str) -> dict[str, float]:
        """The stage's losses and metrics over all images and ranks, by name."""
        means = self.eval_losses.compute(stage, self.trainer.strategy)
        for name, metric in self.metrics.items():
            means[f"{stage}/{name}"] = float(metric.compute())
            metric.reset()
        return means

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch(batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate_batch(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        means = self.compute_means("val")
        for name, value in means.items():
            self.check_finite(value, name)
        self.log_dict(means)
        self.val_means = means

    def on_test_epoch_end(self) -> None:
        self.log_dict(
            self.compute_means("test"), logger=False
        )  # logged as hyperparameters' metrics

    def check_finite(self, value: float, name: str) -> None:
        """Stop before a model that has diverged overwrites one that had not."""
        if not isfinite(value):
            where = f"epoch {self.current_epoch}, step {self.num_updates}"
            raise Diverged(f"{name} became {value} in {where}")

    # Checkpoints hold tensors and primitives only

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *arguments, **options):
        """Load weights, those of older runs too."""
        weights = dict(state_dict)
        for name in state_dict:
            for old, new in RENAMED_WEIGHTS.items():
                if name.startswith(old):
                    weights[new + name.removeprefix(old)] = weights.pop(name)
        return super().load_state_dict(weights, *arguments, **options)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["progress"] = {
            "steps": self.steps,
            "num_updates": self.num_updates,
            "train_losses": vars(self.train_losses),
            "val_means": self.val_means,
        }

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        progress = checkpoint["progress"]
        self.steps, self.num_updates = progress["steps"], progress["num_updates"]
        self.train_losses = LossMeans(**progress["train_losses"])
        self.val_means = dict(progress["val_means"])
