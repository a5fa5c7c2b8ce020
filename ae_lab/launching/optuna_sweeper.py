"""`hydra/sweeper=optuna`: trials chosen one after the other, with the syntax of Hydra's plugin."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.core.trust import check_installed
from ae_lab.tracking.identity import digest
from ae_lab.tracking.run import Run
from ae_lab.tracking.study import FILE, Study, create_study
from ae_lab.tracking.sweeps import read_sweep, record_outcomes

FIGURES = ("trials", "importances", "parallel_coordinates")


class OptunaSweeper(Sweeper):
    """Asks a study for settings, runs them as jobs, tells it what came out.

    The study lies in `studies/` of the outputs folder, and the same command goes on with it until
    `n_trials` have ended. `metric`, `direction`, `sampler` and `pruner` are the study's; `n_jobs`
    trials are launched together. Swept are `choice(...)`, `range(...)` and `interval(...)`, the
    last two on a logarithmic scale as `tag(log, ...)`; `params` has more of them by key.
    """

    def __init__(
        self,
        metric: str,
        direction: str,
        n_trials: int,
        n_jobs: int,
        sampler: DictConfig,
        pruner: DictConfig,
        study_name: str | None = None,
        params: DictConfig | None = None,
    ):
        self.n_trials = check_int("hydra.sweeper.n_trials", n_trials)
        self.n_jobs = check_int("hydra.sweeper.n_jobs", n_jobs)
        check_choice("hydra.sweeper.direction", direction, {"minimize": 0, "maximize": 1})
        self.metric, self.direction = metric, direction
        self.sampler, self.pruner = sampler, pruner
        self.study_name, self.params = study_name, dict(params or {})

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        check_installed("optuna")
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run trials until there are enough.

        Raises:
            UserError: nothing is swept, or another process goes on with this study.
        """
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.with_figures(), folder / "multirun.yaml")
        words = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
        fixed, distributions = read_space(OverridesParser.create().parse_overrides(words))
        name = self.study_name or f"study-{digest([sorted(words), self.metric, self.direction])}"
        file = Path(self.config.paths.outputs) / "studies" / name / FILE
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(file.with_name(".lock"), timeout=0):
                study = create_study(file, self.metric, self.direction, self.sampler, self.pruner)
                print(f"{study.num_ended} of {self.n_trials} trials have ended: {file}")
                study.retry_unfinished()
                record_outcomes(folder, study.outcomes())
                returns = self.run_trials(study, file, fixed, distributions, folder)
        except Timeout as error:
            raise UserError(f"another process goes on with {file}: wait for it") from error
        if best := study.best():
            settings = " ".join(f"{key}={value}" for key, value in best[1].items())
            print(f"best {self.metric} {best[0]:.4g}: {settings}")
        return returns

    def with_figures(self) -> DictConfig:
        """The sweep's configuration, whose report also draws the search."""
        config = self.config.copy()
        with open_dict(config):
            search = [
                {"_target_": f"ae_lab.reporting.{kind}", "y": self.metric} for kind in FIGURES
            ]
            config.figures = [*search, *config.figures]
        return config

    def run_trials(
        self,
        study: Study,
        file: Path,
        fixed: list[str],
        distributions: dict[str, Any],
        folder: Path,
    ) -> list[Any]:
        """Ask, launch and tell."""
        returns, failed = [], 0
        while (missing := self.n_trials - study.num_ended - failed) > 0:
            trials = study.ask(distributions, min(self.n_jobs, missing))
            batch = [
                [*fixed, *(f"{key}={value}" for key, value in trial.params.items()),
                 f"sweep.study={file}", f"sweep.trial={trial.number}"]
                for trial in trials
            ]  # fmt: skip
            self.validate_batch_is_legal(batch)
            returns.append(self.launcher.launch(batch, initial_job_idx=trials[0].number))
            jobs = read_sweep(folder / "sweep.json").jobs
            for trial in trials:
                if str(trial.number) not in jobs:  # the sweep was ended before it
                    return returns
                outcome = dict(jobs[str(trial.number)])
                run = Run(folder / outcome["run"]) if "run" in outcome else None
                if run:
                    outcome["run"] = str(run.path.resolve())
                failed += run is None
                study.tell(trial.number, outcome, run)
        return returns


def read_space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, Any]]:
    """The words that all trials share, and optuna's distributions of the others by their keys.

    Raises:
        UserError: nothing is swept.
    """
    fixed = [one.input_line for one in overrides if not one.is_sweep_override()]
    swept = [one for one in overrides if one.is_sweep_override()]
    if not swept:
        raise UserError(
            "hydra/sweeper=optuna needs settings to vary, as 'lr=tag(log,interval(1e-4,1e-2))' or "
            "'depth=choice(2,3)'"
        )
    return fixed, {one.get_key_element(): distribution_of(one) for one in swept}


def distribution_of(override: Override) -> Any:
    """What optuna draws a setting from.

    Raises:
        UserError: optuna has none, as of whole numbers in steps on a logarithmic scale.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    value = override.value()
    is_log = "log" in getattr(value, "tags", ())
    if isinstance(value, IntervalSweep):
        low, high, step = value.start, value.end, None
    elif isinstance(value, RangeSweep) and not value.shuffle:
        low, high, step = value.start, value.stop, value.step
    else:
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    whole_step = 1 if step is None else step
    try:
        if all(isinstance(number, int) for number in (low, high, whole_step)):
            return IntDistribution(low, high, log=is_log, step=whole_step)
        return FloatDistribution(low, high, log=is_log, step=None if is_log else step)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {error}") from error
