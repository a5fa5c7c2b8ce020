"""What a run leaves behind while it trains: checkpoints, a history, pictures."""

import time
from collections.abc import Iterable
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint, RichProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from ae_lab.data.images import Batch
from ae_lab.pictures import plane_of
from ae_lab.randomness import generator
from ae_lab.run import write_csv

EXAMPLES = 8
SIDE = 10  # of a square of decoded codes
EMBEDDED = 1000


class Checkpoints(Checkpoint):
    """`last.ckpt` every so many seconds and at the end; `best.ckpt` by the module's `monitor`.

    The last holds everything needed to go on, the best the weights alone. Both appear complete
    or not at all (`AtomicCheckpointIO`). Lightning calls this kind of callback after all others, so
    that what early stopping has counted is saved too. A best checkpoint may be younger than the
    last one: a run that resumes comes by that epoch again and writes the same.
    """

    def __init__(self, folder: Path, seconds: float):
        self.folder, self.seconds = folder, seconds
        self.best = float("inf")
        self.saved_at = time.monotonic()

    def save(self, trainer: pl.Trainer) -> None:
        module = trainer.lightning_module
        module.check(float(sum(p.detach().sum() for p in module.parameters())), "a weight")
        trainer.save_checkpoint(self.folder / "last.ckpt")
        self.saved_at = time.monotonic()

    @property
    def due(self) -> bool:
        return time.monotonic() - self.saved_at > self.seconds

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        # To save is a collective call, and clocks differ: several processes save between epochs.
        within = batch_idx + 1 < trainer.num_training_batches and trainer.world_size == 1
        if within and self.due:
            self.save(trainer)

    def on_validation_end(self, trainer, module) -> None:
        score = float(trainer.callback_metrics[module.monitor])
        if trainer.state.fn == "fit" and score < self.best:
            self.best = score
            trainer.save_checkpoint(self.folder / "best.ckpt", weights_only=True)

    def on_train_epoch_end(self, trainer, module) -> None:
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if last or self.due or trainer.world_size > 1:
            self.save(trainer)

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]


class ProgressBar(RichProgressBar):
    """Rich's bar, drawn twice a second: drawing takes the interpreter from training."""

    every = 0.5  # seconds
    drawn_at = 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        now = time.monotonic()
        if now - self.drawn_at > self.every or batch_idx + 1 == trainer.num_training_batches:
            self.drawn_at = now
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


class History(Callback):
    """`history.csv`: one row an epoch, cut back to the checkpoint that a run resumes from.

    Also the clock: `seconds` of training, validation included, over all of a run's attempts.
    """

    def __init__(self, path: Path):
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.seconds_before = 0.0
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def on_fit_start(self, trainer, module) -> None:
        self.started = time.monotonic()

    def on_train_epoch_end(self, trainer, module) -> None:
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= {k: v for k, v in sorted(scores.items()) if k.startswith("val/")}
        row |= module.train_means
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"], "seconds": self.seconds}
        self.rows.append(row)
        if trainer.is_global_zero:
            write_csv(self.path, self.rows)

    def state_dict(self) -> dict:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.seconds_before = state["rows"], state["seconds"]


def grid(*rows: Tensor) -> Tensor:
    """Images (n, C, H, W) per row → one image (C, rows·H, n·W) in [0, 1]."""
    shown = [row.detach().float().cpu().nan_to_num().clamp(0, 1) for row in rows]
    lines = [torch.cat(list(row), dim=2) for row in shown]
    return torch.cat(lines, dim=1)


class Pictures(Callback):
    """Per validation: clean, seen and reconstructed images, one row each; random codes decoded,
    where the model has a prior; the plane of codes decoded, where it has two dimensions.

    At the end of the test: the codes of test images in TensorBoard's projector, with labels and
    thumbnails, if the code is a vector.
    """

    def __init__(self) -> None:
        self.codes: list[Tensor] = []
        self.batches: list[Batch] = []

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, _=0) -> None:
        if batch_idx > 0 or not trainer.is_global_zero or not trainer.loggers:
            return
        with torch.autocast(module.device.type, enabled=False):
            pictures = self.pictures(module, batch)
        for logger in trainer.loggers:
            for name, rows in pictures.items():
                show_image(logger, name, grid(*rows), trainer.global_step)

    def pictures(self, module, batch: Batch) -> dict[str, Iterable[Tensor]]:
        """Rows of images, by what they show."""
        few = batch.part(slice(EXAMPLES))
        shown = {"clean · seen · reconstructed": (few.clean, few.seen, module(few).reconstruction)}
        if not module.generates:
            return shown
        if module.random:
            classes = torch.eye(batch.label.shape[1], device=module.device)
            label = classes[torch.arange(SIDE * SIDE) % SIDE % len(classes)]
            codes = module.bottleneck.sample(label, generator(module.seed, "samples"))
            shown["random codes"] = module.images(codes, label).split(SIDE)
        if module.bottleneck.shape == (2,):
            codes = plane_of(module.encode(batch.seen, batch.label)[0], SIDE, SIDE).flatten(0, 1)
            label = batch.label[:1].expand(len(codes), -1)
            shown["plane of codes"] = module.images(codes, label).split(SIDE)
        return shown

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, _=0) -> None:
        held = sum(map(len, self.codes))
        if held < EMBEDDED and trainer.is_global_zero:
            with torch.autocast(module.device.type, enabled=False):
                code, *_ = module.encode(batch.seen, batch.label)
            if code.ndim > 2:  # maps: tens of thousands of values an image, as text
                return
            self.codes.append(code[: EMBEDDED - held].cpu())
            self.batches.append(batch.part(slice(EMBEDDED - held)))

    def on_test_end(self, trainer, module) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        codes = torch.cat(self.codes) if self.codes else torch.empty(0, 0)
        # The projector wants two dimensions at least: a code of one gets a zero beside it.
        codes = torch.nn.functional.pad(codes, (0, max(0, 2 - codes.shape[1])))
        for board in boards if len(codes) else []:
            labels = [
                " ".join(map(str, row.nonzero().flatten().tolist()))
                for batch in self.batches
                for row in batch.label.cpu()
            ]
            images = torch.cat([batch.clean.cpu() for batch in self.batches])
            board.experiment.add_embedding(
                codes, labels, images, global_step=module.steps, tag="code"
            )
        self.codes, self.batches = [], []


def show_image(logger, name: str, picture: Tensor, step: int) -> None:
    """Send an image (C, H, W) to a logger that can take one."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step)
    elif hasattr(logger, "log_image"):  # wandb
        logger.log_image(name, [picture.permute(1, 2, 0).numpy()], step=step)
    elif hasattr(logger.experiment, "log_image"):  # mlflow
        file = f"{name.replace(' · ', '-')}-{step}.png"
        logger.experiment.log_image(logger.run_id, picture.permute(1, 2, 0).numpy(), file)
