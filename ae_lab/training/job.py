"""The main job: compose → fit → test → leave a record."""

import signal
import sys
import traceback

import pytorch_lightning as pl
import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ae_lab.core import command, configuration
from ae_lab.core.console import RANK, print_rank_zero, print_table
from ae_lab.core.errors import RunFailed, UserError, check_int
from ae_lab.data import ImageData, ImageSet
from ae_lab.data.module import load_data
from ae_lab.models import Autoencoder
from ae_lab.models.conditioning import check_labels
from ae_lab.tracking.identity import identify, run_name
from ae_lab.tracking.registry import find_or_create_run, tabulate_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.sweeps import in_sweep, record_outcome
from ae_lab.training import fast_path
from ae_lab.training.callbacks import History
from ae_lab.training.loggers import log_result
from ae_lab.training.trainer import build_trainer, quiet_libraries, resolve_precision


def run_job(config: DictConfig) -> dict[str, float] | None:
    """One job of Hydra's. A failure ends the process, or inside a sweep this job alone."""
    quiet_libraries()
    swept = in_sweep()
    if swept:
        print(f"\njob {HydraConfig.get().job.num}: {' '.join(configuration.overrides())}")
    try:
        run = train(config)
    except Exception as error:
        if not swept:
            raise
        command.print_error(error)
        record_outcome(error=command.explain_error(error))
        return None
    if swept:
        record_outcome(run)
    elif RANK == 0:
        print_table(tabulate_runs([run]))
    return run.metrics


def train(config: DictConfig) -> Run:
    """Train one run and test it, or find it done.

    Raises:
        UserError: the request cannot be carried out; nothing was written.
        RunFailed: the run had started; what it saved is kept.
    """
    configuration.check_parts(config)
    check_int("epochs", config.epochs)
    refuse_several_devices_in_sweep(config.trainer.devices)
    data = load_data(config)
    model = instantiate(config.model)
    check_labels(model, data.images)
    run, record = find_run(config, data.images, model)
    with run.lock():
        if run.done and not config.force:
            note = ", trained with different code (force=true trains again)"
            print_rank_zero(f"done already{note if run.other_code else ''}: {run.path}")
            return run
        fit(config, run, record, model, data)
    return run


def refuse_several_devices_in_sweep(devices: object) -> None:
    """Lightning starts one process a device by running the command again: here, all of the sweep.

    Raises:
        UserError: a sweep's job asks for more than one device.
    """
    if devices == "auto":
        several = torch.cuda.device_count() > 1
    else:
        several = len(devices) > 1 if isinstance(devices, ListConfig) else str(devices) != "1"
    if several and in_sweep():
        raise UserError(
            f"trainer.devices={devices} in a sweep: a job on several devices is started as a run "
            "of its own, without -m"
        )


def find_run(config: DictConfig, images: ImageSet, model: Autoencoder) -> tuple[Run, dict]:
    """The run this configuration stands for, and what its folder will say of it."""
    precision = resolve_precision(config)
    choices = configuration.choices()

    def default_identity() -> dict:
        words = [f"{group}={choice}" for group, choice in choices.items()]
        if HydraConfig.initialized():
            words += configuration.search_path(HydraConfig.get())
        return identify(compose("config", overrides=words), images.fingerprint, precision)

    identity = identify(config, images.fingerprint, precision)
    name = run_name(configuration.overrides(), choices, images.name)
    flat = configuration.flatten(config)
    record = {
        "data": {"name": images.name, "title": images.title, "fingerprint": images.fingerprint},
        "metrics": {name: metric.higher_is_better for name, metric in model.metrics.items()},
        "choices": choices,
        "configuration": {key: flat[key] for key in flat if key != "figures"},
        "identity": identity,
    }
    return find_or_create_run(config.paths.outputs, identity, name, default_identity), record


def fit(config: DictConfig, run: Run, record: dict, model: Autoencoder, data: ImageData) -> None:
    """Train from the last checkpoint or from the start, test the best, write the record."""
    last = None if config.force else run.load_checkpoint(run.last)
    trainer = build_trainer(config, run, last["global_step"] if last else 0, model)
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    run.begin(config, hydra, record, device=str(trainer.strategy.root_device))
    step = last and last["global_step"]
    print_rank_zero(f"resumed at step {step}: {run.path}" if last else f"new: {run.path}")
    try:
        if config.compile:
            for part in (model.encoder, model.bottleneck, model.decoder):
                part.compile()
        if config.fast_path:
            fast_path.apply(trainer, model)
        trainer.fit(model, data, ckpt_path=run.last if last else None, weights_only=True)
        model.load_state_dict(run.load_checkpoint(run.best)["state_dict"])
        trainer.test(model, data, verbose=False)
        finish(trainer, run, model)
    except (KeyboardInterrupt, SystemExit) as stop:
        run.set_status("interrupted")
        print_rank_zero(f"interrupted: {run.path}; rerun the command to resume")
        if isinstance(stop, SIGTERMException):  # whose own exit code says that all went well
            sys.exit(128 + signal.SIGTERM)
        raise
    except Exception as error:
        why = command.explain_error(error)
        run.set_status("failed", error=why, traceback=traceback.format_exc())
        raise RunFailed(f"{run.path} failed: {why}") from error


def finish(trainer: pl.Trainer, run: Run, model: Autoencoder) -> None:
    """Write the run's numbers to its folder and to the loggers' tables of hyperparameters."""
    history = next(call for call in trainer.callbacks if isinstance(call, History))
    monitored = [row[model.monitor] for row in history.rows]
    metrics = {
        **{name: float(value) for name, value in trainer.callback_metrics.items()},
        f"best/{model.monitor.replace('/', '_')}": (
            max(monitored) if model.monitor_is_better_higher else min(monitored)
        ),
        "epochs": len(history.rows),
        "parameters": sum(p.numel() for p in model.parameters()),
        "num_decoder_inputs": model.num_decoder_inputs,
        "seconds": round(history.seconds, 2),
    }
    for logger in trainer.loggers:
        log_result(logger, run.settings if RANK == 0 else {}, metrics, trainer.global_step)
    run.finish(metrics)
