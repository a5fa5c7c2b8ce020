"""The command `export`: a finished run in a format that others use.

A format is a class with `write(loaded, folder)`; a new one is such a class and a file in
`conf/format/`, or in the folder `format/` of a `hydra.searchpath`.
"""

from pathlib import Path
from typing import Protocol

from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import configuration, validation
from ae_lab.core.errors import UserError
from ae_lab.core.files import check_writable
from ae_lab.inference.hub import check_push, push_folder
from ae_lab.inference.loaded_run import LoadedRun, check_done, load_run
from ae_lab.tracking.registry import run_from_path


class ExportFormat(Protocol):
    """A way to write a run for others."""

    def write(self, loaded: LoadedRun, folder: Path) -> list[str]:
        """Write files to a folder; returns what to say of each.

        Raises:
            UserError: a package is not installed.
            NotApplicable: this format cannot hold such a model.
        """


def export(config: DictConfig) -> Path:
    """Write a run in a format; returns the folder.

    Raises:
        UserError: no run or no folder is named, or the run cannot be written so; the hub does not
            take it, though it is written.
    """
    validation.check_options(config, "export")
    validation.check_parts(config)
    run = run_from_path(config.run)
    check_done(run)
    if not config.output:
        raise UserError("where to? Give output=folder")
    folder = configuration.path_from_start(config.output)
    check_writable(folder, "choose another with output=...")
    if folder.resolve() == run.path.resolve():
        raise UserError(f"output={folder} is the run's own folder: name another")
    if config.push is not None:
        check_push(config.push)
    lines = instantiate(config.format).write(load_run(run), folder)
    print(*lines, sep="\n", flush=True)
    if config.push is not None:
        print(push_folder(folder, config.push))
    return folder
