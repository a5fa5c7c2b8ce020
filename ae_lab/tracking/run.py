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

import contextlib
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from ae_lab.core.console import RANK
from ae_lab.core.errors import CannotWrite, RunFailed, UserError
from ae_lab.core.files import write_json, write_text
from ae_lab.tracking import run_files
from ae_lab.tracking.environment import describe_environment, digest_code
from ae_lab.tracking.identity import digest
from ae_lab.tracking.lock import lock_folder
from ae_lab.tracking.run_files import UnusableFile, seal

FORMAT = 2  # of the configuration in a run's folder; raised when its keys change
RUN_METRICS = "evaluations/run_metrics.json"
CONFIG, HYDRA = ".hydra/config.yaml", ".hydra/hydra.yaml"
# All that is read of a run, by the properties of `Run` that read it.
READ = ("status", "record", "metrics", "history", "overrides", "other_code")
READ += ("_sound_hydra", "_sound_config", "_finished_files")


class Run:
    """One run folder. What is missing is empty, or None, but for the record of what the run is;
    what is there and of no use raises UnusableFile."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.last, self.best = self.checkpoints / "last.ckpt", self.checkpoints / "best.ckpt"
        self._contents: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def exists(self) -> bool:
        """Whether the folder has anything of a run; one that we may not look into may have."""
        try:
            names = {path.name for path in self.path.iterdir()}
        except OSError as error:
            return isinstance(error, PermissionError)
        return bool(names & {"run.json", "status.json", "metrics.json", ".hydra", "checkpoints"})

    def _read(self, file: str, shape: object, cure: str = run_files.AGAIN) -> dict[str, Any]:
        """The content of a file, which is read again once it is another."""
        try:
            status = (self.path / file).stat()
        except OSError:
            return run_files.read_json(self.path / file, shape, cure) or {}
        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._contents.get(file, ((), {}))[0] != stamp:
            content = run_files.read_json(self.path / file, shape, cure) or {}
            self._contents[file] = (stamp, content)
        return self._contents[file][1]

    @cached_property
    def record(self) -> dict[str, Any]:
        """What the run is.

        Raises:
            UnusableFile: it is damaged or missing.
        """
        if record := self._read("run.json", run_files.RECORD):
            return record
        raise UnusableFile(self.path / "run.json", "is missing", run_files.AGAIN)

    @property
    def status(self) -> dict[str, Any]:
        return self._read("status.json", run_files.STATUS)

    @property
    def faults(self) -> list[UnusableFile]:
        """What is damaged, unreadable, or missing though the run is done, of all that is read."""
        if not self.exists:
            return []
        found = {}
        for name in READ:
            try:
                getattr(self, name)
            except UnusableFile as fault:
                found[fault.path] = fault
        return list(found.values())

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
        more = self._run_metrics.items()
        values = {name: m["value"] for name, m in more if m["value"] is not None}
        return self._read("metrics.json", run_files.METRICS) | values

    @property
    def _run_metrics(self) -> dict[str, dict[str, Any]]:
        return self._read(RUN_METRICS, run_files.RUN_METRICS, run_files.DELETE)

    @property
    def metric_directions(self) -> dict[str, bool | None]:
        return self.record.get("metrics", {})

    def add_metric(self, name: str, settings: Any, compute: Callable[[], float | None]) -> None:
        """Save a number of the run under a name, or that it has none, once for some settings."""
        key = digest(settings)
        if self._run_metrics.get(name, {}).get("settings") == key:
            return
        number = {name: {"settings": key, "value": compute()}}
        file = self.path / RUN_METRICS
        file.parent.mkdir(exist_ok=True)
        with FileLock(file.with_name(".lock")):  # others may add one meanwhile
            write_json(file, self._run_metrics | number)

    @property
    def history(self) -> list[dict[str, float]]:
        return run_files.read_table(self.path / "history.csv", run_files.AGAIN)

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
            UserError: this is no run folder, or one whose configuration has other keys, is
                damaged or missing.
        """
        if not self.exists:
            raise UserError(f"{self.path} is not a run folder: `python -m ae_lab.runs` lists them")
        if self.record.get("format") != FORMAT:
            raise UserError(
                f"{self.path} was made by a version of ae_lab whose configuration had other keys: "
                "train it again, or check out the commit in its environment.json"
            )
        _ = self._sound_config
        return OmegaConf.load(self.path / CONFIG)

    @property
    def _sound_config(self) -> None:
        path = self.path / CONFIG
        if not run_files.check_yaml(path, run_files.CONFIG, run_files.AGAIN):
            raise UnusableFile(path, "is missing", run_files.AGAIN)

    @property
    def _sound_hydra(self) -> None:
        run_files.check_yaml(self.path / HYDRA, run_files.HYDRA, run_files.AGAIN)

    @property
    def _finished_files(self) -> None:
        for file in ("metrics.json", "history.csv") if self.done else ():
            if not (self.path / file).exists():
                raise UnusableFile(self.path / file, "is missing", run_files.AGAIN)
        if self.done:
            run_files.check_archive(self.best)

    @cached_property
    def choices(self) -> dict[str, str]:
        """The choice in each group when the run was made; a sweep may have made others that come to
        the same, as a preset does."""
        return self.record.get("choices", {})

    @cached_property
    def overrides(self) -> list[str]:
        """What a person typed when the run was made; a sweep may have asked for it otherwise."""
        file = self.path / ".hydra" / "overrides.yaml"
        return run_files.read_yaml(file, [str], run_files.AGAIN) or []

    @cached_property
    def search_path(self) -> list[str]:
        """What a person typed so that Hydra found configuration in other folders."""
        content = run_files.read_yaml(self.path / HYDRA, run_files.HYDRA, run_files.AGAIN)
        words = content["hydra"]["overrides"]["hydra"] if content else []
        # To look into a package is to import it.
        return [w for w in words if w.startswith("hydra.searchpath=") and "pkg:" not in w]

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
        environment = self._read("environment.json", run_files.ENVIRONMENT, run_files.DELETE)
        return environment.get("code", digest_code()) != digest_code()

    # Writing

    def lock(self, wait: bool = False) -> AbstractContextManager[None]:
        """Hold the run for this process; ranks above zero go along with rank zero.

        Raises:
            UserError: another process holds it and we do not `wait`, or the folder cannot be
                written to.
        """
        return lock_folder(self.path, wait) if RANK == 0 else nullcontext()

    def set_status(self, state: str, **more: Any) -> None:
        """Write how the run is; where the disk has no room for that, it is interrupted."""
        if RANK > 0:
            return
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        try:
            write_json(self.path / "status.json", {"state": state, "time": now} | more)
        except CannotWrite:
            if state in ("running", "done"):
                raise
            with contextlib.suppress(OSError):
                (self.path / "status.json").unlink(missing_ok=True)

    def begin(self, config: DictConfig, hydra: DictConfig | None, record: dict, device: str):
        """Write what is known before training; with `force`, remove what an earlier run left."""
        if RANK > 0:
            return
        if config.force:
            self.clear()
        self.describe(config, hydra, record)
        (self.path / RUN_METRICS).unlink(missing_ok=True)  # they were of other weights
        write_json(self.path / "environment.json", describe_environment(device))
        self.set_status("running")

    def describe(self, config: DictConfig, hydra: DictConfig | None, record: dict) -> None:
        """Write what the run is, and its configuration."""
        write_json(self.path / "run.json", {"format": FORMAT} | record)
        if hydra is not None:
            overrides = OmegaConf.to_yaml(hydra.overrides.task)
            write_text(self.path / ".hydra" / "overrides.yaml", overrides)
            write_text(self.path / HYDRA, seal(OmegaConf.to_yaml({"hydra": hydra})))
        write_text(self.path / CONFIG, seal(OmegaConf.to_yaml(config)))

    def repair(self, config: DictConfig, hydra: DictConfig | None, record: dict) -> None:
        """Write again, or remove, what is damaged and does not take training to make."""
        damaged = {fault.path for fault in self.faults if fault.kind == "damaged"}
        if RANK > 0 or not damaged:
            return
        for file in ("environment.json", RUN_METRICS, HYDRA, ".hydra/overrides.yaml"):
            if self.path / file in damaged:
                (self.path / file).unlink(missing_ok=True)
        if any(path.name == "run.json" or path.parent.name == ".hydra" for path in damaged):
            self.describe(config, hydra, record)

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

    def best_weights(self) -> dict[str, Any]:
        """The weights of the best checkpoint.

        Raises:
            RunFailed: it is damaged or missing.
        """
        if checkpoint := run_files.load_checkpoint(self.best):
            return checkpoint["state_dict"]
        raise RunFailed(f"{self.best} is missing: rerun the run's command, which trains again")
