"""Ending a trial of a study whose first epochs promise little."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from ae_lab.core.errors import Pruned, UserError, suggest
from ae_lab.tracking.study import open_study

if TYPE_CHECKING:
    import optuna


class Pruning(pl.Callback):
    """Tells a study how each epoch of a trial came out, and asks it whether to go on.

    What counts, and the rule, are the study's. Rank zero asks for all.

    Raises:
        Pruned: the study says no.
    """

    def __init__(self, study: str, trial: int):
        self.file, self.number = Path(study), trial
        self.study: optuna.Study | None = None

    def on_fit_start(self, trainer, module) -> None:
        if trainer.is_global_zero:
            self.study = open_study(self.file)
            self.trial = self.study.trial(self.number)

    def read_metric(self, trainer: pl.Trainer) -> float:
        """What counts of this epoch.

        Raises:
            UserError: validation does not give it.
        """
        name = self.study.metric
        if name not in trainer.callback_metrics:
            known = (key for key in trainer.callback_metrics if key.startswith("val/"))
            raise UserError(f"hydra.sweeper.metric={name} is not known: {suggest(name, known)}")
        return float(trainer.callback_metrics[name])

    def on_validation_end(self, trainer, module) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        epoch, promises_little = trainer.current_epoch, False
        if trainer.is_global_zero:
            self.trial.report(self.read_metric(trainer), epoch)
            promises_little = self.trial.should_prune()
        if trainer.strategy.broadcast(promises_little):
            raise Pruned(f"pruned after epoch {epoch + 1} by the rule of its study")
