"""The LightningModule that every family shares: encoder → bottleneck → decoder → output."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ae_lab.data.images import Batch
from ae_lab.errors import RunFailed, UserError
from ae_lab.metrics import image_metrics
from ae_lab.nets import layers
from ae_lab.objective import Objective, Term
from ae_lab.randomness import derive, reseed


@dataclass(slots=True)
class Pass:
    """One forward pass, all an objective's term may look at."""

    clean: Tensor  # (B, C, H, W), pixels in [0, 1]
    seen: Tensor  # (B, C, H, W), what the encoder got
    label: Tensor  # (B, K)
    # A bottleneck that draws several codes for each image puts them on a first axis of these three:
    code: Tensor  # (B, latent) or (B, latent, h, w)
    raw: Tensor  # (B, C, H, W), the decoder's values before the output map
    reconstruction: Tensor  # (B, C, H, W), pixels, of the dtype of clean
    extras: dict[str, Tensor] = field(default_factory=dict)  # what the bottleneck adds
    beside: tuple[Tensor, ...] = ()  # (B, ...) each, what reaches the decoder past the code

    @property
    def passed(self) -> int:
        """How many values, of code, skip connections and indices, reach the decoder per image."""
        return sum(part[0].numel() for part in (self.code, *self.beside))


class Autoencoder(pl.LightningModule):
    """An autoencoder made of parts; see the package's `conf/model/` for families.

    f, s = encoder([seen; y]),  z = bottleneck(f, y)
    reconstruction = output(decoder([z; y], s), seen)

    where y, the label, goes to the decoder if `conditional` and to the encoder if
    `condition_encoder`, and s is what some encoders hand over past the code. Parts come as
    functions of what only their neighbours know: `encoder(shape)` with an attribute `features`,
    the shape of f, `bottleneck(features, classes)` with an attribute `shape`, that of z,
    `decoder(code, shape)`, which `needs` by name what the encoder `hands_over`,
    `optimizer(parameters)` and `scheduler(optimizer, total_steps)`.

    Everything random in training step s is drawn from (seed, "step", s, rank), where s counts the
    steps of this module and travels in its checkpoints.

    Raises:
        UserError: a part cannot be built as asked.
    """

    def __init__(
        self,
        shape: Sequence[int],
        classes: int,
        encoder: Callable[..., nn.Module],
        bottleneck: Callable[..., nn.Module],
        decoder: Callable[..., nn.Module],
        output: str,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        conditional: bool = False,
        condition_encoder: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        torch.manual_seed(derive(seed, "weights"))
        self.seed, self.conditional, self.condition_encoder = seed, conditional, condition_encoder
        channels, *size = shape
        self.encoder = encoder((channels + classes * condition_encoder, *size))
        self.bottleneck = bottleneck(self.encoder.features, classes)
        first, *rest = self.bottleneck.shape
        self.decoder = decoder((first + classes * conditional, *rest), shape)
        self.output = layers.output(output)
        self.objective = objective
        self.check_parts()
        self.make_optimizer, self.make_scheduler = optimizer, scheduler
        scheduler(optimizer(self.parameters()), total_steps=2)  # refuses what is impossible, now
        self.steps, self.total_steps = 0, 1
        self.passed = 0  # values that reach the decoder per image, once known
        self.sums: dict[str, Tensor] = {}  # of this epoch's losses, on the device
        self.counted = 0

    def check_parts(self) -> None:
        """See that each part gets what it needs from the others.

        Raises:
            UserError: one does not.
        """
        if self.encoder.hands_over != self.decoder.needs:
            given, needed = (
                " and ".join(names) or "nothing"
                for names in (self.encoder.hands_over, self.decoder.needs)
            )
            raise UserError(
                f"the encoder hands over {given} beside the code and the decoder takes {needed}: "
                "set model.encoder and model.decoder alike (down=pool and up=unpool, or skips)"
            )
        if missing := self.objective.needs - self.bottleneck.adds:
            raise UserError(
                f"the objective needs the {' and '.join(sorted(missing))} of a random code, and "
                f"{type(self.bottleneck).__name__} has none: take model=vae (ladder_vae for "
                "objective=elbo_ladder), or objective=mse"
            )
        for term in self.objective.modules():
            if isinstance(term, Term):
                term.check(self)
        if self.objective.needs and self.decoder.needs:
            raise UserError(
                f"the objective weighs the code, but {' and '.join(sorted(self.decoder.needs))} "
                "pass it by: take a model whose code is all that its decoder gets"
            )

    def __setattr__(self, name: str, value) -> None:
        # Lightning notes some forty times a step which hook it is in, and a module's own
        # __setattr__, which looks for parameters, takes several per cent of a small network's step.
        if name in ("_current_fx_name", "steps", "counted"):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def encode(
        self, seen: Tensor, label: Tensor, draw: bool = False
    ) -> tuple[Tensor, dict[str, Tensor], tuple]:
        """The code, what the bottleneck adds to it, and what the decoder gets beside it."""
        if self.condition_encoder:
            seen = layers.join_label(seen, label)
        features, beside = self.encoder(seen)
        return *self.bottleneck(features, label, draw), beside

    def decode(self, code: Tensor, label: Tensor, beside: Sequence[Tensor] = ()) -> Tensor:
        """Code (..., B, n) → the decoder's raw values (..., B, C, H, W), not yet pixels."""
        if several := code.shape[: -len(self.bottleneck.shape) - 1]:
            label = label.expand(*several, *label.shape).flatten(0, -2)
            return self.decode(code.flatten(0, 1), label).unflatten(0, (*several, -1))
        return self.decoder(layers.join_label(code, label) if self.conditional else code, beside)

    def images(self, code: Tensor, label: Tensor) -> Tensor:
        """The images (B, C, H, W) that codes alone make."""
        return self.output(self.decode(code, label), None)

    def forward(self, batch: Batch, draw: bool | None = None) -> Pass:
        """One pass; a random code is drawn where asked to, in training if it is not said."""
        draw = self.training if draw is None else draw
        code, extras, beside = self.encode(batch.seen, batch.label, draw)
        raw = self.decode(code, batch.label, beside)
        pixels = self.output(raw, batch.seen).to(batch.clean.dtype)
        return Pass(batch.clean, batch.seen, batch.label, code, raw, pixels, extras, beside)

    @property
    def generates(self) -> bool:
        """Whether random codes make images: the code is a vector and all that the decoder needs."""
        alone = not self.decoder.needs and self.output is not layers.residual
        return alone and len(self.bottleneck.shape) == 1

    @property
    def random(self) -> bool:
        """Whether a pass draws its code."""
        return bool(self.bottleneck.adds)

    @property
    def monitor(self) -> str:
        """The metric by which the best checkpoint is chosen: a bound has no other measure."""
        return "val/loss" if self.objective.needs else "val/mse"

    @property
    def progress(self) -> float:
        """The share of all training steps that are done."""
        return self.steps / self.total_steps

    # Training

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.parameters())
        self.total_steps = max(1, int(self.trainer.estimated_stepping_batches))
        scheduler = self.make_scheduler(optimizer, total_steps=self.total_steps)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    def configure_gradient_clipping(
        self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
    ) -> None:
        """Clip the gradient's norm; Lightning will not where the optimiser's step is fused."""
        if gradient_clip_val is not None:
            if scaler := getattr(self.trainer.precision_plugin, "scaler", None):
                scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        reseed(self.device, self.seed, "step", self.steps, self.global_rank)
        self.steps += 1
        loss, terms = self.objective(self(batch), self)
        self.add({"loss": loss, **terms}, batch)
        return loss

    # Lightning looks at this signature in every step; so it need not be worked out in every step.
    training_step.__signature__ = inspect.signature(training_step)

    def on_train_batch_end(self, outputs, batch: Batch, batch_idx: int) -> None:
        if self.steps % self.trainer.log_every_n_steps == 0:
            loss = outputs["loss"].item()
            self.check(loss, "loss")
            self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.index))
            self.log("lr", self.optimizers().param_groups[0]["lr"])

    def on_train_epoch_start(self) -> None:
        # An epoch that goes on after an interruption keeps what its first part has added up.
        if self.trainer.fit_loop.epoch_loop.batch_progress.current.ready == 0:
            self.reset()

    def add(self, values: dict[str, Tensor], batch: Batch) -> None:
        n = len(batch.index)
        for name, value in values.items():
            value = value.detach()
            held = self.sums.get(name)
            self.sums[name] = value * n if held is None else held.add(value, alpha=n)
        self.counted += n

    def reset(self) -> None:
        self.sums, self.counted = {}, 0

    def means(self, stage: str) -> dict[str, float]:
        """This epoch's means over all ranks, by name; the sums start anew."""
        names = sorted(self.sums)
        sums = torch.stack([self.sums[name] for name in names]).double()
        counted = torch.tensor([self.counted], device=sums.device, dtype=torch.float64)
        total = self.trainer.strategy.reduce(torch.cat([sums, counted]), reduce_op="sum").tolist()
        self.reset()
        return {
            f"{stage}/{name}": value / total[-1] for name, value in zip(names, total, strict=False)
        }

    # Validation and test: in float32, so that figures do not depend on the training's precision.
    # Images are judged as the mean code has them, a bound by codes drawn alike in every epoch.

    def on_validation_epoch_start(self) -> None:
        # Validation comes at the end of a training epoch, whose sums are complete by now.
        self.train_means = self.means("train") if self.counted else {}

    def on_test_epoch_start(self) -> None:
        self.reset()

    def evaluate(self, batch: Batch, batch_idx: int) -> None:
        with torch.autocast(self.device.type, enabled=False):
            out = drawn = self(batch, draw=False)
            if self.random:
                reseed(self.device, "evaluate", batch_idx, self.global_rank)
                drawn = self(batch, draw=True)
            loss, terms = self.objective(drawn, self)
            measured = image_metrics(out.reconstruction, out.clean)
        self.add({"loss": loss, **terms}, batch)
        self.passed = out.passed
        for name, values in measured.items():
            self.sums[name] = self.sums.get(name, 0) + values.sum()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate(batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        means = self.means("val")
        for name, value in {**self.train_means, **means}.items():
            self.check(value, name)
        self.log_dict(means)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.means("test"), logger=False)  # logged with the hyperparameters

    def check(self, value: float, name: str) -> None:
        """Stop before a model that has diverged overwrites one that had not."""
        if value != value or value in (float("inf"), float("-inf")):
            raise RunFailed(
                f"{name} became {value} in epoch {self.current_epoch}, step {self.steps}: try a "
                "lower lr, or gradient_clip=1; the last good checkpoint is kept"
            )

    # Checkpoints hold tensors and primitives only

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["progress"] = {"steps": self.steps, "counted": self.counted, "sums": self.sums}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        progress = checkpoint["progress"]
        self.steps, self.counted = progress["steps"], progress["counted"]
        self.sums = dict(progress["sums"])
