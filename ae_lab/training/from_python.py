"""Train from Python what a command line would train."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ae_lab.core import configuration
from ae_lab.core.command import explain_error
from ae_lab.core.errors import UserError
from ae_lab.core.trust import trust_command
from ae_lab.tracking.run import Run
from ae_lab.training.job import train


def train_overrides(words: Sequence[str]) -> Run:
    """Train the run of `python -m ae_lab.train WORDS`, or find it done.

    Raises:
        UserError: the request cannot be carried out; nothing was written.
        RunFailed: the run had started; what it saved is kept.
    """
    try:
        with hydra_job(words) as config:
            return train(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain_error(error)) from error


@contextmanager
def hydra_job(words: Sequence[str]) -> Iterator[DictConfig]:
    """The configuration of a command line. While the block runs Hydra knows it as that of a job,
    so that the run's folder has the name, and the record, that the command gives it.

    Raises:
        UserError: a word names what there is not.
    """
    configuration.check_choices(words, "config")
    composed = configuration.compose(words, return_hydra_config=True)
    job, before = HydraConfig.instance(), HydraConfig.instance().cfg
    config = configuration.without_hydra(composed)
    OmegaConf.set_struct(config, True)
    with open_dict(composed):
        composed.hydra.job.num = 0
    try:
        job.set_config(composed)
        configuration.check_top_level(config, "config")
        trust_command(config)
        configuration.resolve_paths(config)
        yield config
    finally:
        job.cfg = before
