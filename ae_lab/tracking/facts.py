"""What takes torch to find out, remembered: the fingerprint and shape of data, and the precision.

With these a finished run is found without torch, which takes seconds to import. Facts hold for this
code, this machine since it was started, and the files of the data as they were. Where any of these
is another, or a data set does not say which its files are, they are found out anew.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ae_lab.core.errors import CannotWrite, UserError
from ae_lab.core.files import write_json
from ae_lab.tracking.environment import digest_code
from ae_lab.tracking.identity import digest
from ae_lab.tracking.run_files import read_json

DATA = {"fingerprint": str, "shape": [int], "classes": int, "files": {str: object}}
PRECISION = {"precision": str}
AUTO = ("AE_LAB_AUTO_DATA", "AE_LAB_AUTO_PHOTOGRAPHS")  # "no": embedded data stand in
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class DataFacts:
    """Of a data source of which at most `limit` images of each split are used."""

    fingerprint: str
    shape: list[int]  # channels, height, width
    classes: int


class Facts:
    """The facts about a configuration, in files of its cache."""

    def __init__(self, config: DictConfig):
        self.config = config
        self.folder = Path(config.paths.cache).expanduser() / "facts"
        self.source = OmegaConf.to_container(config.data.source, resolve=True)

    def data_file(self, limit: int | None) -> Path:
        return self.folder / f"data-{digest([self.source, limit, digest_code()])}.json"

    def precision_file(self, shape: list[int]) -> Path:
        trainer = self.config.trainer
        asked = [trainer.precision, trainer.accelerator, self.config.batch_size * prod(shape)]
        return self.folder / f"precision-{digest([asked, describe_machine()])}.json"

    def recall_data(self, limit: int | None) -> DataFacts | None:
        if fell_back():
            return None
        saved = read(self.data_file(limit), DATA)
        if saved is None or any(stamp(Path(path)) != was for path, was in saved["files"].items()):
            return None
        return DataFacts(saved["fingerprint"], saved["shape"], saved["classes"])

    def recall_precision(self, shape: list[int]) -> str | None:
        saved = read(self.precision_file(shape), PRECISION)
        return saved and saved["precision"]

    def remember_data(
        self, limit: int | None, facts: DataFacts, files: Iterable[Path] | None
    ) -> None:
        """Save facts that hold while these files are as they are. Nothing where files are not
        known, or where embedded data stand in: what is missing may be there the next time."""
        if files is not None and not fell_back():
            stamps = {str(path): stamp(path) for path in files}
            write(self.data_file(limit), vars(facts) | {"files": stamps}, DATA)

    def remember_precision(self, shape: list[int], precision: str) -> None:
        if BOOT.exists():
            write(self.precision_file(shape), {"precision": precision}, PRECISION)


def fell_back() -> bool:
    """Whether embedded data stand in for those that were asked for, here or in the process that
    started this one."""
    return "no" in map(os.environ.get, AUTO)


def read(file: Path, shape: object) -> dict[str, Any] | None:
    try:
        return read_json(file, shape, "")
    except UserError:
        return None


def write(file: Path, content: dict[str, Any], shape: object) -> None:
    if content != read(file, shape):
        with contextlib.suppress(CannotWrite, OSError):  # then they will be found out again
            write_json(file, content)


def stamp(path: Path) -> list[int] | None:
    """What changes when a file does; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


@cache
def describe_machine() -> list[str]:
    """What decides which devices torch finds, and which precision it takes for them."""
    boot = BOOT.read_text() if BOOT.exists() else ""
    devices = sorted(path.name for path in Path("/dev").glob("nvidia*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return [digest_code(), version("torch"), boot, visible, *devices]
