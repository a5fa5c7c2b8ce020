"""A run's folder: the one place that knows its layout.

outputs/runs/<run>/
    run.json            what determines the result (identity), the data, the choices of groups
    .hydra/             the configuration, as Hydra writes it
    status.json         running · done · failed · interrupted, and why
    metrics.json        the test metrics of the best checkpoint, parameters, seconds
    history.csv         one row an epoch
    checkpoints/        last.ckpt to go on from, best.ckpt by val/mse, or by a bound
    environment.json    versions, device, commit
    evaluated/          what other commands than the main job found out; measures.json
    events.out.*        TensorBoard
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ae_lab.errors import RunFailed, UserError
from ae_lab.identity import digest, flat

RANK = int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def write(path: Path, text: str) -> None:
    """Write beside and rename: the file is there complete, or as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(text)
    beside.replace(path)


def write_json(path: Path, content: Any) -> None:
    write(path, json.dumps(content, indent=1) + "\n")


def write_csv(path: Path, rows: list[dict]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())


@cache
def code_version() -> str:
    """A digest of the package's source: two runs with the same one were made by the same code."""
    content = blake2b(digest_size=6)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def environment(device: str) -> dict[str, str]:
    """The versions and the machine that a run was made with."""
    from importlib.metadata import version

    names = ["torch", "pytorch-lightning", "hydra-core", "numpy"]
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "code": code_version(),
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
            what = "it" if file.startswith("evaluated") else "the folder"
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
        """The test metrics, and what was measured of the run since."""
        measured = self._read("evaluated/measures.json")
        values = {name: m["value"] for name, m in measured.items() if m["value"] is not None}
        return self._read("metrics.json") | values

    def measure(self, name: str, how: Any, compute: Callable[[], float | None]) -> None:
        """Keep a number of the run under a name, or that it has none; computed once a way."""
        file, mark = "evaluated/measures.json", digest(how)
        if self._read(file).get(name, {}).get("how") == mark:
            return
        number = {name: {"how": mark, "value": compute()}}
        (self.path / "evaluated").mkdir(exist_ok=True)
        with FileLock(self.path / "evaluated" / ".lock"):  # others may measure it meanwhile
            write_json(self.path / file, self._read(file) | number)

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

    def kind(self, but_for: str) -> str:
        """A mark that runs share which differ in one setting at most."""
        items = sorted(self.record["identity"].items())
        return digest([pair for pair in items if f".{but_for}." not in f".{pair[0]}."])

    @cached_property
    def config(self) -> DictConfig:
        """The run's configuration.

        Raises:
            UserError: this is no run folder.
        """
        path = self.path / ".hydra" / "config.yaml"
        if not path.is_file():
            raise UserError(f"{self.path} is not a run folder: `python -m ae_lab.runs` lists them")
        return OmegaConf.load(path)

    @cached_property
    def choices(self) -> dict[str, str]:
        """The choice in each group, by which the run was made first; a sweep may know it by others,
        a study as a preset what another makes of single knobs."""
        return self.record.get("choices", {})

    @cached_property
    def words(self) -> list[str]:
        """What a person typed when the run was made; a sweep may have asked for it otherwise."""
        file = self.path / ".hydra" / "overrides.yaml"
        return list(OmegaConf.load(file)) if file.is_file() else []

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What a person chose: groups by their choice, knobs by their value, flat; of what lies
        deeper, as objective.kl.weight, what was typed."""
        leaves = flat(self.record.get("settings", {}))
        keys = (word.lstrip("+").partition("=")[0] for word in self.words)
        known = self.record.get("identity", {})
        deeper = {key: known[key] for key in keys if "." in key and key in known}
        return leaves | deeper | self.choices | {"data": self.record["data"]["name"]}

    @property
    def other_code(self) -> bool:
        """Whether the run was made by another version of this package."""
        return self._read("environment.json").get("code", code_version()) != code_version()

    # Writing

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; ranks above zero go along with rank zero.

        Raises:
            UserError: another process holds it, or the folder cannot be written to.
        """
        if RANK > 0:
            yield
            return
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise UserError(
                f"{self.path} is being trained by another process: wait for it"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to {self.path} ({error.strerror}): choose another folder with "
                "paths.outputs=..."
            ) from error
        try:
            yield
        finally:
            lock.release()
            left = [path.name for path in self.path.iterdir()]
            if left == [".lock"]:  # it did not come to a start
                shutil.rmtree(self.path)

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
            write(self.path / ".hydra" / "overrides.yaml", overrides)
            write(self.path / ".hydra" / "hydra.yaml", OmegaConf.to_yaml({"hydra": hydra}))
        write(self.path / ".hydra" / "config.yaml", OmegaConf.to_yaml(config))
        write_json(self.path / "run.json", record)
        write_json(self.path / "environment.json", environment(device))
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
