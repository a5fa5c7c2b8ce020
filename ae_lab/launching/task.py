"""A job of Hydra's, in whichever process a launcher runs it."""

import os
import sys

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ae_lab.core import command, configuration
from ae_lab.core.console import RANK, print_table
from ae_lab.tracking.finished import find_finished_run, print_done
from ae_lab.tracking.registry import tabulate_runs
from ae_lab.tracking.run import Run
from ae_lab.tracking.sweeps import OUTCOME, announce, in_sweep, record_outcome


def run_job(config: DictConfig) -> dict[str, float] | None:
    """Find a job's run finished, or train it; its metrics.

    A failure ends the process, or inside a sweep this job alone.
    """
    swept = in_sweep()
    if swept:
        print(f"\njob {HydraConfig.get().job.num}: {' '.join(configuration.overrides())}")
    try:
        run = find_or_train(config)
    except Exception as error:
        record_outcome(error=command.explain_error(error))
        if not swept:
            raise
        command.print_error(error)
        if config.sweep.fail_fast:
            print("sweep.fail_fast: later jobs are not started", file=sys.stderr)
            sys.exit(1)
        return None
    if swept:
        record_outcome(run)
    elif RANK == 0 and OUTCOME not in os.environ:
        print_table(tabulate_runs([run]))
    return run.metrics


def find_or_train(config: DictConfig) -> Run:
    """The run of a configuration. One that is finished is found without torch."""
    if run := find_finished_run(config):
        print_done(run)
        announce(run)
        return run
    from ae_lab.training.job import train

    return train(config)
