"""What a run leaves behind while it trains: checkpoints, a history, a progress bar."""

import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint, RichProgressBar

from ae_lab.core.files import write_csv


class Checkpoints(Checkpoint):
    """`last.ckpt` every so many seconds and at the end; `best.ckpt` by the module's `monitor`.

    The last holds everything needed to go on, the best the weights alone. Both appear complete
    or not at all (`AtomicCheckpointIO`). Lightning calls this kind of callback after all others, so
    that what early stopping has counted is saved too. A best checkpoint may be younger than the
    last one: a run that resumes comes by that epoch again and writes the same.
    """

    def __init__(self, folder: Path, seconds: float):
        self.folder, self.seconds = folder, seconds
        self.best: float | None = None
        self.saved_at = time.monotonic()

    def save(self, trainer: pl.Trainer) -> None:
        module = trainer.lightning_module
        module.check_finite(float(sum(p.detach().sum() for p in module.parameters())), "a weight")
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
        if trainer.state.fn != "fit":
            return
        score = float(trainer.callback_metrics[module.monitor])
        score = -score if module.monitor_is_better_higher else score
        if self.best is None or score < self.best:
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
