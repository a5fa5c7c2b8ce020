"""Commands: a Hydra application whose errors are one line and an exit code."""

import argparse
import logging
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from ae_lab.core import configuration, trust, validation
from ae_lab.core.environment import check_environment
from ae_lab.core.errors import CannotWrite, RunFailed, UserError, disk_error, root_cause
from ae_lab.core.quoting import explain_override, quote
from ae_lab.core.streams import lasting_output

on_refusal: list[Callable[[], None]] = []  # what undoes what a command wrote before it was refused
_launched = "config"  # the name of the configuration that this process's command line is about


class Parser(argparse.ArgumentParser):
    """Parses words; a mistake is one line, as everywhere."""

    def error(self, message: str) -> NoReturn:
        sys.exit(print_error(UserError(f"{message}: --help lists what there is")))


def entry_point(command: Callable[..., None]) -> Callable[..., None]:
    """Decorates what a command starts with: its output outlives its reader, its environment is
    checked."""

    @wraps(command)
    def started(*arguments: object) -> None:
        with lasting_output():
            exit_on_error(check_environment)
            command(*arguments)

    return started


@entry_point
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
        if HydraConfig.get().mode != RunMode.MULTIRUN:  # there it is the job that fails
            exit_on_error(validation.check_options, config, config_name)
        configuration.resolve_paths(config)
        exit_on_error(task, config)

    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    logging.getLogger("hydra").setLevel(logging.CRITICAL)  # it also raises what it logs
    exit_on_error(configuration.check_flags, sys.argv[1:])
    exit_on_error(configuration.check_choices, sys.argv[1:], config_name)
    options = {"config_path": str(configuration.CONF), "config_name": config_name}
    on_refusal.clear()
    try:
        exit_on_error(hydra.main(version_base="1.3", **options)(guarded))
    except SystemExit as stop:
        for undo in on_refusal if stop.code == 2 else ():
            undo()
        raise


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
    if isinstance(error, OverrideParseException):
        return explain_override(error.override)
    if ambiguous := re.search(r"Ambiguous value for argument '(.*?)' 1\.", text):
        key, _, values = ambiguous[1].partition("=")
        return (
            f"{ambiguous[1]} has several values: for a sweep over them add -m, for a list write "
            f"{key}=[{values}], for a comma within one value quote the value, as in "
            f"{shlex.quote(quote(key, values))}"
        )
    if missing := re.search(r"Could not (?:find|override|load) '([^']+)'", text):
        return configuration.explain_unknown(missing[1], _launched)
    if missing := re.search(r"Missing key (\S+)|Key '(\S+)' is not in struct", text):
        return f"the configuration lacks '{missing[1] or missing[2]}': leave out what takes it away"
    if "Config group override must be a string" in text:
        return "a word of the command line names no key: write key=value, as in latent=5"
    if missing := re.search(r"Unknown plugin class : 'hydra_plugins\.hydra_([a-z]+)_", text):
        name = missing[1]
        return f"hydra's plugin {name} is not installed: pip install 'ae_lab[{name}]'"
    if unfit := re.fullmatch(r"Error merging override (.*)", text):
        kind = getattr(error.__cause__, "object_type", None)
        return f"cannot set {unfit[1]}: it is {'a list' if kind is list else 'a group'}"
    if isinstance(error, OmegaConfBaseException):
        why = " ".join(str(error.msg).partition("full_key:")[0].split())
        return f"{error.full_key}: {why.rpartition('raised while resolving interpolation: ')[2]}"
    if isinstance(error, HydraException):
        return text
    if refused := disk_error(error):
        return str(CannotWrite(refused.filename or "a file", refused))
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"{type(error).__name__}: {text}"
