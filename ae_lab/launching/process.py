"""One job of a sweep in a process of its own, which does what the command does that a person would
type."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.launching.fork_server import Forked, ForkServer
from ae_lab.launching.resources import Share
from ae_lab.tracking.run import Run
from ae_lab.tracking.run_files import JOB, read_json
from ae_lab.tracking.sweeps import OUTCOME, describe_outcome

WAITING, RUNNING, ELSEWHERE = "waiting", "running", "elsewhere"
DONE, PRUNED, FAILED, INTERRUPTED = "done", "pruned", "failed", "interrupted"
ENDED = (DONE, PRUNED, FAILED, INTERRUPTED)


@dataclass
class JobProcess:
    """A job by its number and overrides, and how it is.

    `folder` is the sweep's, where the job's output goes; `title` names the job among the sweep's.
    The state is `elsewhere` while a process that is not ours trains the job's run.
    """

    number: int
    overrides: list[str]
    folder: Path
    title: str
    config: DictConfig | None = None
    state: str = WAITING
    why: str = ""  # it failed
    run: Run | None = None  # once it is known
    share: Share | None = None  # of the machine, while it runs
    oom_kills: int = 0  # of the kernel before it was started
    process: subprocess.Popen | Forked | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.folder / f"job_{self.number}.log"

    @property
    def command(self) -> list[str]:
        """What a person would type for this job alone."""
        hydra = self.config.hydra
        words = [*hydra.overrides.task, *configuration.search_path(hydra)]
        if hydra.runtime.choices.get("experiment"):
            words.append("hydra.mode=RUN")  # the experiment's file makes a sweep
        return [sys.executable, "-m", "ae_lab.train", *words]

    @property
    def num_devices(self) -> int:
        """How many processes the trainer starts, of which each has a device."""
        devices = self.config.trainer.devices
        if isinstance(devices, ListConfig):
            return max(1, len(devices))
        return max(1, int(devices)) if str(devices).isdecimal() else 1

    @property
    def on_gpu(self) -> bool:
        return self.config.trainer.accelerator != "cpu"

    def start(self, share: Share, server: ForkServer) -> None:
        """Start the process, in a session of its own: a signal of the terminal is not for it."""
        self.share, self.state, self.oom_kills = share, RUNNING, count_oom_kills()
        self._outcome.unlink(missing_ok=True)
        environment = {**os.environ, **share.environment, OUTCOME: str(self._outcome.absolute())}
        with self.log.open("a") as log:
            print(f"$ {shlex.join(self.command)}", file=log)
        # Of a run on several devices Lightning starts all processes but one anew.
        start = server.start if may_fork(share) and self.num_devices == 1 else start_process
        self.process = start(self.command, environment, self.log)

    @property
    def _outcome(self) -> Path:
        return self.folder / f".job_{self.number}.json"

    def read_outcome(self) -> dict[str, Any]:
        """What the process has said of itself so far."""
        with contextlib.suppress(UserError):
            return read_json(self._outcome, JOB, "") or {}
        return {}

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and those that it has started."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def poll(self, stopping: bool) -> bool:
        """See how the process is; whether it has ended."""
        outcome, code = self.read_outcome(), self.process.poll()
        if self.run is None and "run" in outcome:
            self.run = Run(Path(outcome["run"]))
        if code is None:
            return False
        if code == 0:
            self.state = DONE if self.run.done else PRUNED
        elif stopping:
            self.state = INTERRUPTED
        elif self.run and self.run.state in (RUNNING, DONE):
            self.state = ELSEWHERE  # it ended because another process has the run
        else:
            self.fail(outcome.get("error") or self.explain(code))
        self._outcome.unlink(missing_ok=True)
        self.send(signal.SIGKILL)  # to processes of a run on several devices that outlive the first
        self.process = None
        return True

    def fail(self, why: str) -> None:
        self.state, self.why = FAILED, why

    def explain(self, code: int) -> str:
        """Why a process ended that could not say so itself."""
        if code == -signal.SIGKILL and count_oom_kills() > self.oom_kills:
            return f"killed by the kernel, which was out of memory: its output is in {self.log}"
        if code < 0:
            return f"killed by {signal.Signals(-code).name}: its output is in {self.log}"
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f"exit code {code}: {lines[-1].strip()} (more in {self.log})"

    def outcome(self) -> dict[str, Any]:
        """What the sweep's file says of the job."""
        if self.config is None:
            return {"overrides": self.overrides, "choices": {}, "error": self.why}
        run = self.run if self.state in (DONE, PRUNED) else None
        return describe_outcome(self.config.hydra, run, self.why)

    def progress(self) -> tuple[float, int, float | None, float | None]:
        """Epochs done, of how many, the last validation's PSNR, and seconds left."""
        rows: list[dict[str, float]] = []
        if self.run:
            with contextlib.suppress(UserError):
                rows = self.run.history
        total = self.config.trainer.max_epochs or self.config.epochs
        psnr = next((row["val/psnr"] for row in reversed(rows) if "val/psnr" in row), None)
        left = rows[-1]["seconds"] / len(rows) * (total - len(rows)) if rows else None
        return len(rows), total, psnr, left


def may_fork(share: Share) -> bool:
    """Whether a job's process may be forked from one that has imported torch: CUDA and Apple's
    frameworks do not outlive a fork."""
    return sys.platform == "linux" and not share.gpus


def start_process(command: list[str], environment: dict[str, str], log: Path) -> subprocess.Popen:
    """Start a command with an output file, in a session of its own."""
    with log.open("a") as output:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def count_oom_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
