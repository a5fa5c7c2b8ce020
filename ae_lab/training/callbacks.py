"""What a run leaves behind while it trains: checkpoints, a history, a progress bar."""

import signal
import threading
import time
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint, RichProgressBar
from pytorch_lightning.callbacks import EarlyStopping as LightningEarlyStopping

from ae_lab.core.files import write_csv
from ae_lab.training.checkpoint_io import WEIGHTS_ALONE


class Checkpoints(Checkpoint):
    """`last.ckpt` every so many seconds and at the end; `best.ckpt` by the module's `monitor`.

    The last holds everything needed to go on, the best the weights alone: those of the end, where
    no validation took place. Both appear complete or not at all (`AtomicCheckpointIO`). Lightning
    calls this kind of callback after all others, so that what early stopping has counted is saved
    too. A best checkpoint may be younger than the last one: a run that resumes comes by that epoch
    again and writes the same. One that `extends` another, and starts from its last checkpoint, may
    stop later than that one did.

    Ctrl-C, or a signal to end, saves at the next moment from which a run resumes to the bit, and
    then ends the process; a second Ctrl-C ends it at once.
    """

    def __init__(self, folder: Path, seconds: float, extends: bool = False):
        self.folder, self.seconds, self.extends = folder, seconds, extends
        self.best: float | None = None  # monitored value
        self.saved_at = time.monotonic()
        self.interrupted = False
        self.handler_before = None

    def on_fit_start(self, trainer, module) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and callable(signal.getsignal(signal.SIGINT)):  # it may be ignored
            self.handler_before = signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, number, frame) -> None:
        self.interrupted = True
        self.restore_handler()

    def restore_handler(self) -> None:
        if self.handler_before is not None:
            signal.signal(signal.SIGINT, self.handler_before)
            self.handler_before = None

    def on_fit_end(self, trainer, module) -> None:
        self.restore_handler()

    def on_exception(self, trainer, module, exception) -> None:
        self.restore_handler()

    def save(self, trainer: pl.Trainer) -> None:
        module = trainer.lightning_module
        module.check_finite(float(sum(p.detach().sum() for p in module.parameters())), "a weight")
        for logger in trainer.loggers:
            logger.save()  # what it has not written yet, a run that goes on from here would lack
        trainer.save_checkpoint(self.folder / "last.ckpt")
        self.saved_at = time.monotonic()

    def save_best(self, trainer: pl.Trainer) -> None:
        # Lightning's own weights_only would leave out what callbacks do, and save other weights
        # than the moving average that was validated.
        trainer.save_checkpoint(self.folder / "best.ckpt", storage_options=WEIGHTS_ALONE)

    def save_if_due(self, trainer: pl.Trainer) -> None:
        """Save, if it is time to or the process is to end, which it then does.

        Raises:
            KeyboardInterrupt: it was interrupted.
        """
        waited = time.monotonic() - self.saved_at > self.seconds
        if waited or self.interrupted or trainer.received_sigterm:
            self.save(trainer)
        if self.interrupted:
            raise KeyboardInterrupt

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if is_resumable(trainer, batch_idx):
            self.save_if_due(trainer)

    def on_validation_end(self, trainer, module) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        score = float(trainer.callback_metrics[module.monitor])
        sign = 1 if module.monitor_is_better_higher else -1
        if self.best is None or sign * score > sign * self.best:
            self.best = score
            self.save_best(trainer)

    def on_train_epoch_end(self, trainer, module) -> None:
        is_last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if is_last and self.best is None:
            self.save_best(trainer)
        if is_last or trainer.world_size > 1:
            self.save(trainer)
        self.save_if_due(trainer)

    def on_save_checkpoint(self, trainer, module, checkpoint: dict) -> None:
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer, module, checkpoint: dict) -> None:
        if self.extends:  # it stopped by rules that may be others now
            kept = {k: v for k, v in checkpoint["callbacks"].items() if "EarlyStopping" not in k}
            checkpoint["callbacks"] = kept
        else:  # Lightning forgets that a run has stopped before its last epoch, and would train on
            trainer.should_stop = checkpoint["should_stop"]

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: dict) -> None:
        self.best = state["best"]


def is_resumable(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a run that resumes after this batch, within an epoch, goes on as if undisturbed.

    Not with gradients half accumulated, nor where a validation follows, or the batch's loss is yet
    to be logged: Lightning would leave those out. And to save is a collective call, but clocks
    differ: several processes save between epochs.
    """
    every = trainer.log_every_n_steps
    logs = every > 1 and trainer.global_step % every == 0  # else there would be no moment left
    number = batch_idx + 1
    over_epochs = trainer.check_val_every_n_epoch is None  # batches are counted over all of them
    counted = trainer.fit_loop.total_batch_idx + 1 if over_epochs else number
    validates = counted % trainer.val_check_batch == 0
    is_last = number == trainer.num_training_batches
    updated = trainer.lightning_module.is_last_of_update(batch_idx)
    return updated and not (validates or logs or is_last) and trainer.world_size == 1


class EarlyStopping(LightningEarlyStopping):
    """Lightning's, which does not count while parts of the model are trained alone."""

    def on_validation_end(self, trainer, module) -> None:
        if not module.is_pretraining:
            super().on_validation_end(trainer, module)

    def on_train_epoch_end(self, trainer, module) -> None:
        if not module.is_pretraining:
            super().on_train_epoch_end(trainer, module)


class ProgressBar(RichProgressBar):
    """Rich's bar, drawn twice a second: drawing takes the interpreter from training."""

    every = 0.5  # seconds
    drawn_at = 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        now = time.monotonic()
        if now - self.drawn_at > self.every or batch_idx + 1 == trainer.num_training_batches:
            self.drawn_at = now
            super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)


class History(Checkpoint):
    """`history.csv`: one row an epoch, cut back to the checkpoint that a run resumes from.

    A row has the epoch's mean training losses, and what its last validation found if it had one.
    Lightning calls this kind of callback after the module, which computes them. Also the clock:
    `seconds` of training, validation included, over all of a run's attempts.
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
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        row |= dict(sorted(module.epoch_means.items(), reverse=True))  # validation first
        row |= {"lr": trainer.optimizers[0].param_groups[0]["lr"], "seconds": self.seconds}
        self.rows.append(row)
        if trainer.is_global_zero:
            write_csv(self.path, self.rows)

    def on_fit_end(self, trainer, module) -> None:
        # A run that had trained to its end, and resumes for its test, may have lost the file.
        if trainer.is_global_zero and self.rows:
            write_csv(self.path, self.rows)

    def state_dict(self) -> dict:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state: dict) -> None:
        self.rows, self.seconds_before = state["rows"], state["seconds"]
