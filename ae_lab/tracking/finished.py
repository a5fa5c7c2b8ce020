"""Runs that are finished, found without torch."""

from contextlib import suppress

from omegaconf import DictConfig

from ae_lab.core import validation
from ae_lab.core.console import print_rank_zero
from ae_lab.tracking.facts import Facts
from ae_lab.tracking.identity import identify
from ae_lab.tracking.registry import run_of_identity
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import UnreadableFile


def find_finished_run(config: DictConfig) -> Run | None:
    """The finished run of a configuration, with all its files.

    None also where it takes torch to tell, or the configuration has a mistake: the job will say.
    """
    run = find_known_run(config)
    return run if run and not run.faults and run.done else None


def find_known_run(config: DictConfig) -> Run | None:
    """The run of a configuration in whatever state; None where there is none, or it takes torch to
    tell."""
    with suppress(Exception):
        validation.check_options(config, "config")
        if config.force or config.extend is not None or config.init_from is not None:
            return None
        facts = Facts(config)
        data = facts.recall_data(config.data.limit)
        if data is None or config.data.shape not in (None, data.shape):
            return None
        if config.data.classes not in (None, data.classes):
            return None
        if precision := facts.recall_precision(data.shape):
            given = config.data.shape, config.data.classes
            config.data.shape, config.data.classes = data.shape, data.classes
            try:
                identity = identify(config, data.fingerprint, precision)
            finally:
                config.data.shape, config.data.classes = given
            return run_of_identity(config.paths.outputs, identity)
    return None


def is_done(run: Run, config: DictConfig) -> bool:
    """Whether the run is finished, with all its files, and says so.

    Raises:
        UnreadableFile: we may not read one of its files.
    """
    faults = [] if config.force else run.faults
    for fault in faults:
        if isinstance(fault, UnreadableFile):
            raise fault
    if config.force or faults or not run.done:
        return False
    print_done(run)
    return True


def print_done(run: Run) -> None:
    note = ", trained with different code (force=true trains again)" if run.other_code else ""
    print_rank_zero(f"done already{note}: {run.path}")
