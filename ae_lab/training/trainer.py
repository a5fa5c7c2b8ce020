"""Lightning's trainer, set up for a run."""

import logging
import os
import warnings
from math import prod

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import GradientAccumulationScheduler
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from ae_lab.core import hardware
from ae_lab.core.console import RANK, RANK_VARIABLE
from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.models import Autoencoder
from ae_lab.tracking.run import Run
from ae_lab.training.callbacks import Checkpoints, EarlyStopping, History, ProgressBar
from ae_lab.training.checkpoint_io import AtomicCheckpointIO
from ae_lab.training.image_logger import ImageLogger
from ae_lab.training.pruning import Pruning

# Zero passes Lightning's own checks of these, and is divided by later.
COUNTS = ("max_epochs", "check_val_every_n_epoch", "accumulate_grad_batches", "log_every_n_steps")
# What Lightning refuses of a module that steps its optimisers itself, at values that do nothing.
REFUSED_OF_MANUAL = {"gradient_clip_val": None, "accumulate_grad_batches": 1}
# Arguments of Lightning's trainer that a run cannot use, and what to do instead.
REFUSED = {
    "logger": "loggers are a group of their own, as in logger=tensorboard",
    "callbacks": "callbacks are a group of their own, as in callbacks=[ema,checkpoint_every]",
    "default_root_dir": "paths.outputs says where runs lie",
    "max_time": "a result must not depend on a machine's speed: set epochs, or +trainer.max_steps",
    "enable_checkpointing": "a run resumes by its checkpoints; checkpoint_seconds says how often",
    "overfit_batches": "to see a model overfit, train on few images, as with data.limit=256",
    "barebones": "it leaves out checkpoints and numbers, which make a run",
    "model_registry": "checkpoints stay in the run's folder",
}


def quiet_libraries() -> None:
    """Silence what libraries say about things that are as they should be."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Lightning sets this for programs that fork; it makes each optimiser step open a library.
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pytorch_lightning.profilers").setLevel(logging.INFO)  # if one is asked for
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    # Of torch's own derivatives forwards.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    torch.set_float32_matmul_precision("high")


def resolve_precision(config: DictConfig) -> str:
    """Lightning's precision for this run; `auto` asks the hardware."""
    trainer = config.trainer
    pixels = config.batch_size * prod(config.data.shape)
    return hardware.resolve_precision(trainer.precision, trainer.accelerator, pixels)


def check_arguments(config: DictConfig) -> None:
    """Check the arguments for Lightning's trainer that it, or a run, could not use.

    Raises:
        UserError: names the one and what to do instead.
    """
    given = {name: value for name, value in config.trainer.items() if value is not None}
    for name in given.keys() & REFUSED.keys():
        raise UserError(f"trainer.{name} is not for runs: {REFUSED[name]}")
    for name in [name for name in COUNTS if isinstance(given.get(name), int)]:
        check_int(f"trainer.{name}", given[name])
    if "gradient_clip_algorithm" in given and "gradient_clip_val" not in given:
        raise UserError("trainer.gradient_clip_algorithm does nothing without gradient_clip=...")
    check_float("checkpoint_seconds", config.checkpoint_seconds)
    if config.early_stopping is not None:
        check_int("early_stopping", config.early_stopping)
    if config.gradient_clip is not None:
        check_float("gradient_clip", config.gradient_clip, exclusive=True)
    if given.get("limit_train_batches") == 0:
        raise UserError("trainer.limit_train_batches=0 trains nothing: give at least 1")
    if given.get("max_steps", -1) != -1:
        check_int("trainer.max_steps", given["max_steps"])
        for name in given.keys() & {"min_epochs", "min_steps"}:
            raise UserError(f"trainer.max_steps and trainer.{name} may disagree: give one of them")
    if given.get("limit_val_batches") == 0 and config.early_stopping is not None:
        raise UserError("early_stopping needs validation: trainer.limit_val_batches=0 has none")
    if not isinstance(given.get("val_check_interval", 1), int | float):
        raise UserError(
            f"trainer.val_check_interval={given['val_check_interval']} must be a number of batches,"
            " or a share of an epoch: a result must not depend on a machine's speed"
        )
    check_float("trainer.val_check_interval", given.get("val_check_interval", 1), exclusive=True)


def check_interval(config: DictConfig, num_images: int) -> None:
    """Check that validation comes at least once an epoch where it is counted in its batches.

    Raises:
        UserError: an epoch has fewer.
    """
    interval = config.trainer.get("val_check_interval")
    in_epoch = -(-num_images // config.batch_size)
    across_epochs = config.trainer.get("check_val_every_n_epoch", 1) is None
    if isinstance(interval, int) and interval > in_epoch and not across_epochs:
        raise UserError(
            f"trainer.val_check_interval={interval} is more than the {in_epoch} batches of an "
            "epoch: take fewer, or count across epochs, +trainer.check_val_every_n_epoch=null"
        )


def check_rank(trainer: pl.Trainer) -> None:
    """Check that this process is, to Lightning, the one that the environment says it is.

    Raises:
        UserError: it is not, so that nobody or everybody would write the run's folder.
    """
    if (trainer.global_rank > 0) != (RANK > 0):
        name = RANK_VARIABLE or "NODE_RANK"
        raise UserError(
            f"the environment says {name}={os.environ.get(name)}, but this is process "
            f"{trainer.global_rank} of {trainer.world_size} of the run: `unset {name}` if it is "
            "left over, or set trainer.devices and trainer.num_nodes to what was started"
        )


def check_steps(trainer: pl.Trainer, model: Autoencoder) -> None:
    """Check that a model which steps its optimisers itself can do so under this trainer.

    Raises:
        UserError: the strategy steps them its own way, or a callback changes how often.
    """
    if model.automatic_optimization:
        return
    if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
        raise UserError(
            f"trainer.strategy={type(trainer.strategy).__name__} does not train a critic beside "
            "the autoencoder: take trainer.strategy=ddp"
        )
    if any(isinstance(one, GradientAccumulationScheduler) for one in trainer.callbacks):
        raise UserError(
            "GradientAccumulationScheduler does not go with a critic: accumulate alike in each "
            "epoch, +trainer.accumulate_grad_batches=4"
        )


class LateArguments(pl.Callback):
    """Gives the trainer arguments that Lightning refuses where it does not step the optimisers.

    They arrive after its check. The module heeds them, and what else depends on them is right.
    """

    def __init__(self, arguments: dict[str, object]):
        self.arguments = arguments

    def setup(self, trainer, module, stage) -> None:
        vars(trainer).update(self.arguments)


def cluster_plugins() -> list[SLURMEnvironment]:
    """What tells Lightning that submitit queues a job of Slurm again, so that it must not."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and SLURMEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def build_trainer(
    config: DictConfig, run: Run, step: int, model: Autoencoder, source: Run | None = None
) -> pl.Trainer:
    """The trainer with the run's loggers and callbacks; it starts at a `step`, from the last
    checkpoint of the `source` if that is another run.

    Raises:
        UserError: the machine does not have what the trainer is asked for.
    """
    config = OmegaConf.merge(
        config, {"run": {"path": str(run.path), "name": run.name, "step": step}}
    )
    callbacks = [
        History(run.path / "history.csv"),
        ImageLogger(),
        Checkpoints(run.checkpoints, config.checkpoint_seconds, extends=source not in (None, run)),
    ]
    if config.early_stopping is not None:
        mode = "max" if model.monitor_is_better_higher else "min"
        callbacks.append(EarlyStopping(model.monitor, patience=config.early_stopping, mode=mode))
    callbacks += instantiate(config.callbacks).values()
    if config.sweep.study is not None:
        callbacks.append(Pruning(config.sweep.study, config.sweep.trial))
    if config.trainer.enable_progress_bar:
        callbacks.append(ProgressBar(refresh_rate=20))
    withheld = {} if model.automatic_optimization else REFUSED_OF_MANUAL
    given = {name: config.trainer.get(name) or unused for name, unused in withheld.items()}
    callbacks.append(LateArguments(given))
    max_steps = config.trainer.get("max_steps")
    model.max_updates = None if max_steps in (None, -1) else max_steps
    try:
        trainer = instantiate(
            config.trainer,
            **withheld,
            # The model stops after so many: of a run with max_steps that resumes between two epochs
            # Lightning would end the first one twice.
            max_steps=-1,
            precision=resolve_precision(config),
            logger=list(instantiate(config.logger).values()) if RANK == 0 else False,
            callbacks=callbacks,
            plugins=[
                AtomicCheckpointIO(),
                *cluster_plugins(),
                *instantiate(config.trainer.get("plugins") or []),
            ],
            default_root_dir=str(run.path),
        )
    except Exception as error:
        if isinstance(
            error.__cause__,
            MisconfigurationException | ValueError | TypeError | RuntimeError | ModuleNotFoundError,
        ):
            raise UserError(str(error.__cause__)) from error
        raise
    check_rank(trainer)
    check_steps(trainer, model)
    has_norm = any(isinstance(part, torch.nn.BatchNorm1d) for part in model.modules())
    if has_norm and config.batch_size < 2 * trainer.world_size:
        raise UserError(
            f"batch_size={config.batch_size}: batch normalisation needs two images on each of "
            f"{trainer.world_size} devices; raise it, or take norm=layer"
        )
    return trainer
