"""Lightning's trainer, set up for a run."""

import logging
import os
import warnings
from math import prod

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ae_lab.core import hardware
from ae_lab.core.console import RANK
from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.models import Autoencoder
from ae_lab.tracking.run import Run
from ae_lab.training import fast_path
from ae_lab.training.callbacks import Checkpoints, History, ProgressBar
from ae_lab.training.checkpoint_io import AtomicCheckpointIO
from ae_lab.training.image_logger import ImageLogger


def quiet_libraries() -> None:
    """Silence what libraries say about things that are as they should be."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Lightning sets this for programs that fork; it makes each optimiser step open a library.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    torch.set_float32_matmul_precision("high")


def resolve_precision(config: DictConfig) -> str:
    """Lightning's precision for this run; `auto` asks the hardware."""
    trainer = config.trainer
    pixels = config.batch_size * prod(config.data.shape)
    return hardware.resolve_precision(trainer.precision, trainer.accelerator, pixels)


def build_trainer(config: DictConfig, run: Run, step: int, model: Autoencoder) -> pl.Trainer:
    """The trainer with the run's loggers and callbacks; `step` is where it resumes.

    Raises:
        UserError: the machine does not have what the trainer is asked for.
    """
    config = OmegaConf.merge(
        config, {"run": {"path": str(run.path), "name": run.name, "step": step}}
    )
    callbacks = [
        History(run.path / "history.csv"),
        ImageLogger(),
        Checkpoints(run.checkpoints, config.checkpoint_seconds),
    ]
    if config.early_stopping is not None:
        patience = check_int("early_stopping", config.early_stopping)
        mode = "max" if model.monitor_is_better_higher else "min"
        callbacks.append(EarlyStopping(model.monitor, patience=patience, mode=mode))
    if config.gradient_clip is not None:
        check_float("gradient_clip", config.gradient_clip, exclusive=True)
    if config.trainer.enable_progress_bar:
        callbacks.append(ProgressBar(refresh_rate=20))
    idle = fast_path.NoProfiler() if config.fast_path else None
    try:
        return instantiate(
            config.trainer,
            precision=resolve_precision(config),
            logger=list(instantiate(config.logger).values()) if RANK == 0 else False,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            profiler=config.trainer.get("profiler") or idle,
        )
    except Exception as error:
        if isinstance(
            error.__cause__, MisconfigurationException | ValueError | ModuleNotFoundError
        ):
            raise UserError(str(error.__cause__)) from error
        raise
