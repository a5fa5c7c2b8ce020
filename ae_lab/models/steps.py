"""How every autoencoder is trained, validated and tested, step by step."""

from collections.abc import Callable, Mapping
from math import isfinite

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric

from ae_lab.core.errors import Diverged
from ae_lab.core.hardware import full_precision
from ae_lab.core.randomness import reseed
from ae_lab.data.images import Batch
from ae_lab.models.interfaces import Bottleneck
from ae_lab.models.loss_means import LossMeans
from ae_lab.models.objectives import Objective
from ae_lab.models.ranks import share_buffers


class SteppedModule(pl.LightningModule):
    """A LightningModule whose `forward(batch, draw)` returns an `AutoencoderOutput`.

    Everything random in a training step is drawn from (seed, "step", s, rank). `steps` s counts
    batches, `num_updates` steps of the optimiser: fewer, where gradients of several batches are
    accumulated. Both travel in checkpoints, which hold tensors and primitives only.
    """

    is_pretraining = False  # whether parts are trained alone, which says little of the whole

    # What subclasses set
    bottleneck: Bottleneck
    objective: Objective
    metrics: Mapping[str, Metric]
    make_optimizer: Callable[..., torch.optim.Optimizer]
    make_scheduler: Callable[..., LRScheduler]

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed
        self.steps, self.num_updates, self.total_updates = 0, 0, 1
        self.max_updates: int | None = None  # after which to stop, before the last epoch
        self.num_decoder_inputs = 0  # per image, once known
        self.train_losses, self.eval_losses = LossMeans(), LossMeans()
        # By their names in logs: of this epoch's last validation, and of the last whole epoch.
        self.val_means: dict[str, float] = {}
        self.epoch_means: dict[str, float] = {}

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

    # Checkpoints

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
