"""Commands: a Hydra application whose errors are one line and an exit code."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import wraps

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ae_lab.core import configuration, trust
from ae_lab.core.errors import CannotWrite, RunFailed, UserError, disk_error, root_cause

_launched = "config"  # the name of the configuration that this process's command line is about


def launch(task: Callable[[DictConfig], object], config_name: str) -> None:
    """Run a Hydra application. Exit code 2 is for a request that cannot be carried out, 1 for a
    run that failed."""
    global _launched
    _launched = config_name
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{sys.modules[task.__module__].__doc__}\n{configuration.describe(config_name)}")
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, we explain

    @wraps(task)
    def guarded(config: DictConfig) -> None:
        # Here, before Hydra adds lines of its own and before a task imports torch.
        exit_on_error(configuration.check_top_level, config, config_name)
        exit_on_error(trust.trust_command, config)
        for name, path in config.get("paths", {}).items():
            config.paths[name] = str(configuration.path_from_start(path))
        exit_on_error(task, config)

    options = {"config_path": str(configuration.CONF), "config_name": config_name}
    exit_on_error(hydra.main(version_base="1.3", **options)(guarded))


def exit_on_error(task: Callable, *arguments: object) -> None:
    """Call a function; an exception ends the process with one line."""
    try:
        task(*arguments)
    except Exception as error:
        sys.exit(print_error(error))


def print_error(error: BaseException) -> int:
    """Print an error as one line, below its traceback if AE_LAB_TRACEBACK=1 asks for that; the
    exit code that belongs to it."""
    if os.environ.get("AE_LAB_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exception(error)
    print(f"error: {explain_error(error)}", file=sys.stderr)
    return 1 if isinstance(root_cause(error), RunFailed) else 2


def explain_error(error: BaseException) -> str:
    """One line on what went wrong."""
    error = root_cause(error)
    text = " ".join(str(error).split())
    if isinstance(error, UserError | RunFailed):
        return text
    if missing := re.search(r"Could not (?:find|override|load) '([^']+)'", text):
        return configuration.explain_unknown(missing[1], _launched)
    if isinstance(error, HydraException | OmegaConfBaseException):
        return text
    if refused := disk_error(error):
        return str(CannotWrite(refused.filename or "a file", refused))
    return f"{type(error).__name__}: {text}"
