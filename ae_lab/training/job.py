"""The main job: compose → fit → test → leave a record."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.utilities.exceptions import SIGTERMException

from ae_lab.core import command, configuration, validation
from ae_lab.core.console import RANK, print_rank_zero
from ae_lab.core.errors import Diverged, Pruned, RunFailed, UserError, check_int, root_cause
from ae_lab.data import ImageData, ImageSet
from ae_lab.data.module import load_data
from ae_lab.models import Autoencoder
from ae_lab.models.conditioning import check_labels, check_side
from ae_lab.tracking.facts import DataFacts, Facts
from ae_lab.tracking.finished import is_done
from ae_lab.tracking.identity import identify, is_within, run_name
from ae_lab.tracking.registry import find_or_create_run
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import load_checkpoint
from ae_lab.tracking.sweeps import announce, in_sweep
from ae_lab.training.callbacks import Checkpoints, History
from ae_lab.training.continuation import (
    copy_best,
    extend_config,
    load_weights,
    parent_identity,
    parent_run,
)
from ae_lab.training.dry_run import check_model
from ae_lab.training.loggers import log_charts, log_result
from ae_lab.training.trainer import (
    build_trainer,
    check_arguments,
    check_interval,
    quiet_libraries,
    resolve_precision,
)

OF_THE_JOB = ("figures", "trust", "sweep")  # what its run does not depend on and nobody asks for


def train(config: DictConfig) -> Run:
    """Train one run and test it, or find it done. Another process that trains it is waited for in
    a sweep, whose other jobs wait too.

    Raises:
        UserError: the request cannot be carried out; nothing was written.
        RunFailed: the run had started; what it saved is kept.
    """
    quiet_libraries()
    parent = parent_run(config)
    if config.extend is not None:
        config = extend_config(config, parent)
    validation.check_options(config, "config")
    check_int("epochs", config.epochs)
    check_arguments(config)
    validation.check_parts(config)
    refuse_several_devices_in_sweep(config.trainer.devices)
    check_model(config)
    data = load_data(config)
    data.images.train.check_one_size()
    check_interval(config, len(data.images.train))
    model = instantiate(config.model)
    check_labels(model, data.images)
    check_side(model, data.noise)
    if config.init_from is not None:
        load_weights(model, parent)
    run, record = find_run(config, data.images, model, parent)
    remember_facts(config, data)
    announce(run)
    if is_done(run, config):  # asked before the lock: a finished run may be on a read-only disk
        return run
    with run.lock(wait=in_sweep()):
        if not config.force:
            run.repair(config, hydra_settings(), record)
        if not is_done(run, config):
            for fault in [] if config.force else run.faults:
                print_rank_zero(f"not done: {fault.why}")
            fit(config, run, record, model, data, parent)
    return run


def remember_facts(config: DictConfig, data: ImageData) -> None:
    """Save what a later start can then tell without torch."""
    facts, images = Facts(config), data.images
    found = DataFacts(images.fingerprint, data.shape, data.classes)
    facts.remember_data(config.data.limit, found, images.files)
    facts.remember_precision(data.shape, resolve_precision(config))


def hydra_settings() -> DictConfig | None:
    return HydraConfig.get() if HydraConfig.initialized() else None


def refuse_several_devices_in_sweep(devices: object) -> None:
    """Lightning starts one process a device by running the command again: here, all of the sweep.

    Raises:
        UserError: a sweep's job asks for more than one device.
    """
    if devices == "auto":
        several = torch.cuda.device_count() > 1
    else:
        several = len(devices) > 1 if isinstance(devices, ListConfig) else str(devices) != "1"
    started_together = int(os.environ.get("SLURM_NTASKS", 1)) > 1
    if several and in_sweep() and not started_together:
        raise UserError(
            f"trainer.devices={devices} in a sweep takes a process of its own for each job: add "
            "hydra/launcher=local"
        )


def find_run(
    config: DictConfig, images: ImageSet, model: Autoencoder, parent: Run | None
) -> tuple[Run, dict]:
    """The run this configuration stands for, and what its folder will say of it."""
    precision = resolve_precision(config)
    choices = configuration.choices() if config.extend is None else parent.choices

    def default_identity(choices: dict[str, str]) -> dict:
        groups = configuration.groups_of("config")
        words = [f"{group}={choices[group]}" for group in groups if group in choices]
        if HydraConfig.initialized():
            words += configuration.search_path(HydraConfig.get())
        return identify(configuration.compose(words), images.fingerprint, precision)

    identity = identify(config, images.fingerprint, precision) | parent_identity(config, parent)
    name = run_name(configuration.overrides(), choices, images.name)
    flat = configuration.flatten(config)
    record = {
        "data": {"name": images.name, "title": images.title, "fingerprint": images.fingerprint},
        "metrics": {name: metric.higher_is_better for name, metric in model.metrics.items()},
        "choices": choices,
        "configuration": {key: flat[key] for key in flat if not is_within(key, OF_THE_JOB)},
        "identity": identity,
    }
    return find_or_create_run(config.paths.outputs, identity, name, default_identity), record


def fit(
    config: DictConfig,
    run: Run,
    record: dict,
    model: Autoencoder,
    data: ImageData,
    parent: Run | None,
) -> None:
    """Train from the last checkpoint or from the start, test the best, write the record."""
    source, last = starting_point(config, run, parent)
    step = last["global_step"] if last else 0
    trainer = build_trainer(config, run, step, model, source)
    run.begin(config, hydra_settings(), record, device=str(trainer.strategy.root_device))
    verb = "resumed" if source is run else f"extends {source.path}"
    print_rank_zero(f"{verb} at step {step}: {run.path}" if last else f"new: {run.path}")
    with recorded(run, config):
        if source is not run and RANK == 0:
            copy_best(source, run)
        for logger in trainer.loggers:
            log_charts(logger)
        if config.compile:
            for part in (model.encoder, model.bottleneck, model.decoder):
                part.compile()
        try:
            trainer.fit(model, data, ckpt_path=source.last if last else None, weights_only=True)
        except Pruned as pruned:
            run.set_status("interrupted", error=str(pruned))
            print_rank_zero(f"{pruned}: {run.path}")
            return
        model.load_state_dict(run.best_weights())
        trainer.test(model, data, verbose=False)
        finish(trainer, run, model)


@contextmanager
def recorded(run: Run, config: DictConfig) -> Iterator[None]:
    """Write to the run's status how the block ended.

    Raises:
        RunFailed: it ended by an error.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        run.set_status("interrupted")
        print_rank_zero(f"interrupted: {run.path}; rerun the command to resume")
        if isinstance(stop, SIGTERMException):  # whose own exit code says that all went well
            sys.exit(128 + signal.SIGTERM)
        raise
    except Exception as error:
        why = command.explain_error(error)
        if isinstance(root_cause(error), Diverged):
            why += f": {advise_on_divergence(config, run)}"
        run.set_status("failed", error=why, traceback=traceback.format_exc())
        raise RunFailed(f"{run.path} failed: {why}") from error


def starting_point(config: DictConfig, run: Run, parent: Run | None) -> tuple[Run, dict | None]:
    """The run whose last checkpoint training starts from, and that checkpoint; None at the start.

    The best checkpoint may have been lost. The last one does not hold its weights, so the run
    starts again, and comes by them as it did before.

    Raises:
        RunFailed: a checkpoint is damaged.
        UserError: the run to extend has no last checkpoint.
    """
    last = None if config.force else load_checkpoint(run.last)
    state = last.get("callbacks", {}).get("Checkpoints", {}) if last else {}
    had_best = state.get("best") is not None or (run.path / "metrics.json").exists()
    if last and had_best and load_checkpoint(run.best) is None:
        print_rank_zero(f"{run.best} is missing: the run starts again")
        if RANK == 0:
            run.last.unlink()  # beside a new best checkpoint it would pass for the end of this run
        last = None
    if last is not None or config.extend is None:
        return run, last
    if (last := load_checkpoint(parent.last)) is None:
        raise UserError(f"extend={parent.path}: it has no last.ckpt to go on from; try init_from")
    return parent, last


def advise_on_divergence(config: DictConfig, run: Run) -> str:
    """What a person may do whose run has diverged."""
    clip = ", or gradient_clip=1" if config.gradient_clip is None else ""
    kept = "; checkpoints/last.ckpt is from before" if run.last.is_file() else ""
    return f"try a lower lr than {config.lr:g}{clip}{kept}"


def finish(trainer: pl.Trainer, run: Run, model: Autoencoder) -> None:
    """Write the run's numbers to its folder and to the loggers' tables of hyperparameters."""

    def the(kind):
        return next(callback for callback in trainer.callbacks if isinstance(callback, kind))

    history, best = the(History), the(Checkpoints).best
    metrics = {
        **{name: float(value) for name, value in trainer.callback_metrics.items()},
        **({} if best is None else {f"best/{model.monitor.replace('/', '_')}": best}),
        "epochs": len(history.rows),
        "parameters": sum(p.numel() for p in model.parameters()),
        "num_decoder_inputs": model.num_decoder_inputs,
        "seconds": round(history.seconds, 2),
    }
    for logger in trainer.loggers:
        log_result(logger, run.settings if RANK == 0 else {}, metrics, trainer.global_step)
    run.finish(metrics)
