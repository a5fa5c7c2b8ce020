"""A run's folder: the one place that knows its layout.

outputs/runs/<run>/
    run.json            what determines the result (identity), the data, the choices of groups
    .hydra/             the configuration, as Hydra writes it
    status.json         running · done · failed · interrupted, and why
    metrics.json        the test metrics of the best checkpoint, parameters, seconds
    history.csv         one row an epoch
    checkpoints/        last.ckpt to go on from, best.ckpt by the model's monitor
    environment.json    versions, device, commit
    evaluations/        what evaluators found out; run_metrics.json holds an experiment's numbers
    events.out.*        TensorBoard
"""

import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.console import RANK
from ae_lab.core.errors import RunFailed, UserError
from ae_lab.core.files import write_json, write_text
from ae_lab.tracking.identity import digest
from ae_lab.tracking.lock import lock_folder

FORMAT = 2  # of the configuration in a run's folder; raised when its keys change
RUN_METRICS = "evaluations/run_metrics.json"


class RunLike(Protocol):
    """What tables, figures and claims read of a run: of its folder, or of its saved results."""

    path: Path | None  # None where the numbers alone were saved
    name: str
    title: str  # what tables and figures call its data
    settings: dict[str, Any]  # what a person chose, flat
    metrics: dict[str, float]
    history: list[dict[str, float]]  # one row an epoch
    metric_directions: dict[str, bool | None]  # of its test metrics: whether higher is better

    def group_key(self, ignoring: str) -> str:
        """A key that runs share which differ in one setting at most."""


@cache
def digest_code() -> str:
    """A digest of the package's source: two runs with the same one were made by the same code."""
    content = blake2b(digest_size=6)
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def describe_environment(device: str) -> dict[str, str]:
    """The versions and the machine that a run was made with."""
    from importlib.metadata import version

    names = ["torch", "pytorch-lightning", "hydra-core", "numpy"]
    git = ["git", "-C", str(Path(__file__).parents[1]), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "code": digest_code(),
        "commit": commit or "unknown",
        "python": sys.version.split()[0],
        **{name: version(name) for name in names},
        "device": device,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


class Run:
    """One run folder. Reading never fails on what is missing: it is empty, or None."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.last, self.best = self.checkpoints / "last.ckpt", self.checkpoints / "best.ckpt"

    @property
    def name(self) -> str:
        return self.path.name

    def _read(self, file: str) -> dict[str, Any]:
        try:
            return json.loads((self.path / file).read_text())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            what = "it" if file.startswith("evaluations") else "the folder"
            raise UserError(f"{self.path / file} is damaged ({error}): delete {what}") from error

    @cached_property
    def record(self) -> dict[str, Any]:
        return self._read("run.json")

    @property
    def status(self) -> dict[str, Any]:
        return self._read("status.json")

    @property
    def done(self) -> bool:
        return self.status.get("state") == "done"

    @property
    def state(self) -> str:
        """A run that says 'running' while nobody holds its lock was interrupted."""
        state = self.status.get("state", "interrupted")
        if state == "running":
            try:
                with FileLock(self.path / ".lock", timeout=0):
                    return "interrupted"
            except (Timeout, OSError):
                pass
        return state

    @property
    def metrics(self) -> dict[str, float]:
        """The test metrics, and an experiment's run metrics."""
        more = self._read(RUN_METRICS)
        values = {name: m["value"] for name, m in more.items() if m["value"] is not None}
        return self._read("metrics.json") | values

    @property
    def metric_directions(self) -> dict[str, bool | None]:
        return self.record.get("metrics", {})

    def add_metric(self, name: str, settings: Any, compute: Callable[[], float | None]) -> None:
        """Save a number of the run under a name, or that it has none, once for some settings."""
        key = digest(settings)
        if self._read(RUN_METRICS).get(name, {}).get("settings") == key:
            return
        number = {name: {"settings": key, "value": compute()}}
        file = self.path / RUN_METRICS
        file.parent.mkdir(exist_ok=True)
        with FileLock(file.with_name(".lock")):  # others may add one meanwhile
            write_json(file, self._read(RUN_METRICS) | number)

    @property
    def history(self) -> list[dict[str, float]]:
        try:
            with (self.path / "history.csv").open() as file:
                rows = list(csv.DictReader(file))
        except FileNotFoundError:
            return []
        return [{key: float(value) for key, value in row.items() if value} for row in rows]

    @property
    def title(self) -> str:
        """What tables and figures say of the run's data."""
        return self.record["data"]["title"]

    def group_key(self, ignoring: str) -> str:
        items = sorted(self.record["identity"].items())
        return digest([pair for pair in items if f".{ignoring}." not in f".{pair[0]}."])

    @cached_property
    def config(self) -> DictConfig:
        """The run's configuration.

        Raises:
            UserError: this is no run folder, or one whose configuration has other keys.
        """
        path = self.path / ".hydra" / "config.yaml"
        if not path.is_file():
            raise UserError(f"{self.path} is not a run folder: `python -m ae_lab.runs` lists them")
        if self.record.get("format") != FORMAT:
            raise UserError(
                f"{self.path} was made by a version of ae_lab whose configuration had other keys: "
                "train it again, or check out the commit in its environment.json"
            )
        return OmegaConf.load(path)

    @cached_property
    def choices(self) -> dict[str, str]:
        """The choice in each group when the run was made; a sweep may have made others that come to
        the same, as a preset does."""
        return self.record.get("choices", {})

    @cached_property
    def overrides(self) -> list[str]:
        """What a person typed when the run was made; a sweep may have asked for it otherwise."""
        file = self.path / ".hydra" / "overrides.yaml"
        return list(OmegaConf.load(file)) if file.is_file() else []

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What a person chose, flat: groups by their choice, keys at the top and of the noise by
        their value, and deeper ones, as objective.kl.weight, where they were typed."""
        typed = {word.lstrip("+").partition("=")[0] for word in self.overrides}
        chosen = {
            key: value
            for key, value in self.record["configuration"].items()
            if "." not in key or key.startswith("noise.") or key in typed
        }
        return chosen | self.choices | {"data": self.record["data"]["name"]}

    @property
    def other_code(self) -> bool:
        """Whether the run was trained with different code."""
        return self._read("environment.json").get("code", digest_code()) != digest_code()

    # Writing

    def lock(self, wait: bool = False) -> AbstractContextManager[None]:
        """Hold the run for this process; ranks above zero go along with rank zero.

        Raises:
            UserError: another process holds it and we do not `wait`, or the folder cannot be
                written to.
        """
        return lock_folder(self.path, wait) if RANK == 0 else nullcontext()

    def set_status(self, state: str, **more: Any) -> None:
        if RANK == 0:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            write_json(self.path / "status.json", {"state": state, "time": now} | more)

    def begin(
        self, config: DictConfig, hydra: DictConfig | None, record: dict, device: str
    ) -> None:
        """Write what is known before training; with `force`, remove what an earlier run left."""
        if RANK > 0:
            return
        if config.force:
            self.clear()
        if hydra is not None:
            overrides = OmegaConf.to_yaml(hydra.overrides.task)
            write_text(self.path / ".hydra" / "overrides.yaml", overrides)
            write_text(self.path / ".hydra" / "hydra.yaml", OmegaConf.to_yaml({"hydra": hydra}))
        write_text(self.path / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
        write_json(self.path / "run.json", {"format": FORMAT} | record)
        write_json(self.path / "environment.json", describe_environment(device))
        self.set_status("running")

    def clear(self) -> None:
        """Remove everything but the lock."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != ".lock":
                path.unlink()

    def finish(self, metrics: dict[str, float]) -> None:
        if RANK == 0:
            write_json(self.path / "metrics.json", metrics)
            self.set_status("done")

    def load_checkpoint(self, path: Path) -> dict | None:
        """A checkpoint's content, None if there is none.

        Raises:
            RunFailed: the file is damaged.
        """
        import torch

        if not path.is_file():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise RunFailed(
                f"{path} is damaged ({type(error).__name__}): delete it and the run starts again, "
                "or put a copy back"
            ) from error
