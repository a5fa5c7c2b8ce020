"""The main job: compose → fit → test → leave a record.

    python -m ae_lab.train                                     one run
    python -m ae_lab.train -m model=mlp latent=2,5,10,32,64    a sweep

The same command again returns finished runs at once and resumes interrupted ones.
"""

import contextlib
import logging
import os
import signal
import sys
import traceback
import warnings
from math import prod

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException, SIGTERMException

from ae_lab import config as configuration
from ae_lab import hardware, runs, sweep
from ae_lab.callbacks import Checkpoints, History, Pictures, ProgressBar
from ae_lab.checkpoint_io import AtomicCheckpointIO
from ae_lab.errors import RunFailed, UserError, real, whole
from ae_lab.identity import identity, readable
from ae_lab.run import RANK, Run

STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


def train(config: DictConfig) -> Run:
    """Train one run and test it, or find it done.

    Raises:
        UserError: it cannot be done as asked; nothing was written.
        RunFailed: it had started; what it saved is kept.
    """
    hardware.huge_pages()
    configuration.check(config)
    whole("epochs", config.epochs)
    sweep.refuse_several_devices(config.trainer.devices)
    data, model = instantiate(config.data), instantiate(config.model)
    run, record = claim(config, data.images)
    with run.lock():
        if run.done and not config.force:
            flag = ", made by other code (force=true trains it again)" if run.other_code else ""
            tell(f"done already{flag}: {run.path}")
            return run
        fit(config, run, record, model, data)
    return run


def tell(line: str) -> None:
    """Print, from one process only."""
    if RANK == 0:
        print(line, flush=True)


def resolved_precision(config: DictConfig) -> str:
    asked = config.trainer
    pixels = config.batch_size * prod(config.data.shape)
    return hardware.precision(asked.precision, asked.accelerator, pixels)


def claim(config: DictConfig, images) -> tuple[Run, dict]:
    """The run this configuration stands for, and what its folder will say of it."""
    precision = resolved_precision(config)
    choices = configuration.choices()

    def defaults() -> dict:
        made = [f"{group}={choice}" for group, choice in choices.items()]
        return identity(compose("config", overrides=made), images.fingerprint, precision)

    wanted = identity(config, images.fingerprint, precision)
    name = readable(configuration.overrides(), choices, images.name)
    whole = OmegaConf.to_container(config, resolve=True)
    settings = {k: v for k, v in whole.items() if k != "figures" and not isinstance(v, dict)}
    record = {
        "data": {"name": images.name, "title": images.title, "fingerprint": images.fingerprint},
        "choices": choices,
        "settings": settings | {"noise": whole["noise"]},
        "identity": wanted,
    }
    return runs.claim(config.paths.outputs, wanted, name, defaults), record


def fit(config: DictConfig, run: Run, record: dict, model, data) -> None:
    """Train from the last checkpoint or from the start, test the best, write the record."""
    last = None if config.force else run.load_checkpoint(run.last)
    trainer = build_trainer(config, run, last["global_step"] if last else 0, model.monitor)
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    run.begin(config, hydra, record, device=str(trainer.strategy.root_device))
    tell(f"resumed at step {last['global_step']}: {run.path}" if last else f"new: {run.path}")
    try:
        if config.compile:
            for part in (model.encoder, model.bottleneck, model.decoder):
                part.compile()
        skip_idle_hooks(model, *trainer.callbacks)
        trainer.fit(model, data, ckpt_path=run.last if last else None, weights_only=True)
        model.load_state_dict(run.load_checkpoint(run.best)["state_dict"])
        trainer.test(model, data, verbose=False)
        finish(trainer, run, model)
    except (KeyboardInterrupt, SystemExit) as stop:
        run.set_status("interrupted")
        tell(f"interrupted: {run.path}; the same command goes on")
        if isinstance(stop, SIGTERMException):  # whose own exit code says that all went well
            sys.exit(128 + signal.SIGTERM)
        raise
    except Exception as error:
        why = configuration.explain(error)
        run.set_status("failed", error=why, traceback=traceback.format_exc())
        raise RunFailed(f"{run.path} failed: {why}") from error


def skip_idle_hooks(*owners: pl.Callback | pl.LightningModule) -> None:
    """Take from callbacks and modules what they inherit and leave empty of a training step's hooks.

    Lightning would call each in each step; what cannot be called it skips.
    """
    for owner in owners:
        base = pl.Callback if isinstance(owner, pl.Callback) else pl.LightningModule
        for hook in STEP_HOOKS:
            if getattr(type(owner), hook) is getattr(base, hook):
                setattr(owner, hook, None)


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, and builds no context manager for it some fifty times a step."""

    nothing = contextlib.nullcontext()

    def profile(self, action_name: str):
        return self.nothing


def build_trainer(config: DictConfig, run: Run, step: int, monitor: str = "val/mse") -> pl.Trainer:
    """Lightning's trainer with the run's loggers and callbacks.

    Raises:
        UserError: the machine does not have what the trainer is asked for.
    """
    config = OmegaConf.merge(
        config, {"run": {"path": str(run.path), "name": run.name, "step": step}}
    )
    callbacks = [
        History(run.path / "history.csv"),
        Pictures(),
        Checkpoints(run.checkpoints, config.checkpoint_seconds),
    ]
    if config.early_stopping is not None:
        patience = whole("early_stopping", config.early_stopping)
        callbacks.append(EarlyStopping(monitor, patience=patience))
    if config.gradient_clip is not None:
        real("gradient_clip", config.gradient_clip, above=True)
    if config.trainer.enable_progress_bar:
        callbacks.append(ProgressBar(refresh_rate=20))
    try:
        trainer = instantiate(
            config.trainer,
            precision=resolved_precision(config),
            logger=list(instantiate(config.logger).values()) if RANK == 0 else False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            profiler=config.trainer.get("profiler") or NoProfiler(),
        )
    except Exception as error:
        if isinstance(
            error.__cause__, MisconfigurationException | ValueError | ModuleNotFoundError
        ):
            raise UserError(str(error.__cause__)) from error
        raise
    return trainer


def finish(trainer: pl.Trainer, run: Run, model) -> None:
    """The run's figures, to its folder and to the loggers' tables of hyperparameters."""
    history = next(call for call in trainer.callbacks if isinstance(call, History))
    metrics = {
        **{name: float(value) for name, value in trainer.callback_metrics.items()},
        "best/val_mse": min(row["val/mse"] for row in history.rows),
        "epochs": len(history.rows),
        "parameters": sum(p.numel() for p in model.parameters()),
        "passed": model.passed,
        "seconds": round(history.seconds, 2),
    }
    chosen = run.settings if RANK == 0 else {}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(chosen, metrics, step=trainer.global_step)
        else:
            logger.log_hyperparams(chosen)
            logger.log_metrics(metrics, step=trainer.global_step)
        logger.finalize("success")
    run.finish(metrics)


def job(config: DictConfig) -> dict[str, float] | None:
    """One job of Hydra's. A failure ends the process, or inside a sweep this job alone."""
    swept = sweep.in_sweep()
    if swept:
        print(f"\njob {HydraConfig.get().job.num}: {' '.join(configuration.overrides())}")
    try:
        run = train(config)
    except Exception as error:
        if not swept:
            raise
        configuration.say(error)
        sweep.record(error=configuration.explain(error))
        return None
    if swept:
        sweep.record(run)
    elif RANK == 0:
        runs.print_wide(runs.table([run]))
    return run.metrics


def quiet() -> None:
    """Silence what libraries say about things that are as they should be."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Lightning sets this for programs that fork; it makes each optimiser step open a library.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    torch.set_float32_matmul_precision("high")


def main() -> None:
    quiet()
    configuration.launch(configuration.guarded(job), "config")


if __name__ == "__main__":
    main()
