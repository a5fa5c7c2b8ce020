"""A study of optuna's: trials that are runs, in one file of an outputs folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.errors import UserError
from ae_lab.core.trust import check_installed
from ae_lab.tracking.identity import digest
from ae_lab.tracking.run import Run

if TYPE_CHECKING:
    import optuna

FILE = "study.log"
RULES = "optuna.pruners."


class Study:
    """Trials of settings, what came out of them, and what to try next.

    `metric` is a number of a run's history; a trial's value is its best. The sampler's seed depends
    on how many trials there are, not on what this process has drawn: a study that was killed goes
    on without drawing again what it had.
    """

    def __init__(self, study: optuna.Study, sampler: DictConfig | None = None):
        self.study, self.sampler = study, sampler

    @property
    def metric(self) -> str:
        return self.study.user_attrs["metric"]

    @property
    def num_ended(self) -> int:
        """Trials that ended with a value, or were pruned."""
        return len(self._trials("COMPLETE", "PRUNED"))

    def _trials(self, *states: str) -> list[optuna.trial.FrozenTrial]:
        return [t for t in self.study.get_trials(deepcopy=False) if t.state.name in states]

    def ask(self, distributions: dict[str, Any], count: int) -> list[optuna.Trial]:
        """Trials to run next."""
        if self.sampler is not None:
            number = len(self.study.get_trials(deepcopy=False))
            derived = {}
            if "seed" in self.sampler:
                derived["seed"] = int(digest([self.sampler.seed, number]), 16)
            self.study.sampler = instantiate(self.sampler, **derived)
        return [self.study.ask(distributions) for _ in range(count)]

    def tell(self, number: int, outcome: dict[str, Any], run: Run | None) -> None:
        """Note how a trial ended: with a value, pruned if its run is not done, or failed."""
        from optuna.trial import TrialState

        self.trial(number).set_user_attr("outcome", outcome)
        if run is None:
            self.study.tell(number, state=TrialState.FAIL)
        elif not run.done:
            self.study.tell(number, state=TrialState.PRUNED)
        else:
            self.study.tell(number, self.value_of(run))

    def value_of(self, run: Run) -> float:
        """The best value of the study's metric over a run's epochs.

        Raises:
            UserError: no epoch of the run has it.
        """
        values = [row[self.metric] for row in run.history if self.metric in row]
        if not values:
            known = sorted({name for row in run.history for name in row if "val/" in name})
            raise UserError(
                f"hydra.sweeper.metric={self.metric}: {run.path}/history.csv has none: choose from "
                f"{', '.join(known)}"
            )
        return (min if self.study.direction.name == "MINIMIZE" else max)(values)

    def trial(self, number: int) -> optuna.Trial:
        import optuna

        [frozen] = [t for t in self.study.get_trials(deepcopy=False) if t.number == number]
        return optuna.Trial(self.study, frozen._trial_id)

    def retry_unfinished(self) -> None:
        """Put trials of a process that is gone first in the line: their runs go on where they
        were."""
        from optuna.trial import TrialState

        for trial in self._trials("RUNNING"):
            self.study.enqueue_trial(trial.params)
            self.study.tell(trial.number, state=TrialState.FAIL)

    def outcomes(self) -> dict[int, dict[str, Any]]:
        """How trials ended, as sweeps write it."""
        trials = self._trials("COMPLETE", "PRUNED")
        return {
            t.number: dict(t.user_attrs["outcome"]) for t in trials if "outcome" in t.user_attrs
        }

    def best(self) -> tuple[float, dict[str, Any]] | None:
        """The best trial's value and settings."""
        if not self._trials("COMPLETE"):
            return None
        return self.study.best_value, self.study.best_params


def create_study(
    file: Path, metric: str, direction: str, sampler: DictConfig, pruner: DictConfig
) -> Study:
    """The study in a file, a new one if there is none.

    Raises:
        UserError: optuna is not installed, or the pruner is none of its.
    """
    check_installed("optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file.parent.mkdir(parents=True, exist_ok=True)
    rule = OmegaConf.to_container(pruner, resolve=True)
    study = optuna.create_study(
        storage=_storage(file),
        study_name=file.parent.name,
        direction=direction,
        load_if_exists=True,
        pruner=build_pruner(rule),
    )
    study.set_user_attr("metric", metric)
    study.set_user_attr("pruner", rule)
    return Study(study, sampler)


def open_study(file: Path) -> Study:
    """The study in a file, with its rule for pruning.

    Raises:
        UserError: optuna is not installed, or there is no such study.
    """
    check_installed("optuna")
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if not file.is_file():
        raise UserError(f"sweep.study={file} is no file of a study")
    study = optuna.load_study(study_name=None, storage=_storage(file))
    study.pruner = build_pruner(study.user_attrs["pruner"])
    return Study(study)


def build_pruner(rule: dict[str, Any]) -> optuna.pruners.BasePruner:
    """One of optuna's rules: a study's file may come from anyone.

    Raises:
        UserError: it is not optuna's.
    """
    name = str(rule.get("_target_"))
    if not name.startswith(RULES) or not name.removeprefix(RULES).isidentifier():
        raise UserError(f"hydra.sweeper.pruner._target_={name}: give a class of {RULES[:-1]}")
    return instantiate(rule)


def _storage(file: Path) -> optuna.storages.JournalStorage:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file)))
