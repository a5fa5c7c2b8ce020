"""A sweep of `hydra/launcher=local` in a hostile world: `make test-chaos`.

Twelve small runs are trained undisturbed, and again while, at seeded moments, jobs, what forks them
and the launcher get SIGKILL, the disk (a small tmpfs) is full for seconds, and locks and unfinished
files of dead processes lie about. The same command is repeated until all is done. Then

- every tensor of every checkpoint is to the bit that of the undisturbed sweep;
- no run is lost, and none has been trained to its end twice;
- whatever was read of a run at any moment was whole.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run
from tests.benchmarks.kills import load_tensors

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "-m", "hydra/launcher=local"),
    *("hydra.launcher.n_parallel=2", "data=mnist5k", "data.limit=1000", "noise=gaussian"),
    *("hidden=[32]", "dropout=0.1", "epochs=20", "batch_size=50", "checkpoint_seconds=0.1"),
    *("trainer.enable_progress_bar=false", "latent=2,3", "seed=0,1,2,3,4,5"),
    *("hydra.callbacks.sweep.columns=[]",),
]
NUM_RUNS = 12
DISK = 48  # MB
EVENTS = (
    *("kill a job", "kill a job", "kill what forks jobs", "kill the launcher"),
    *("fill the disk", "leave a lock"),
)


def start(outputs: Path, log: Path) -> subprocess.Popen:
    with log.open("a") as file:
        return subprocess.Popen(
            [*COMMAND, f"paths.outputs={outputs}"], stdout=file, stderr=subprocess.STDOUT
        )


def children_of(parent: int) -> list[int]:
    """The processes that a process has started, or forked."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def jobs_of(launcher: int) -> list[int]:
    """The processes that train."""
    return [job for server in children_of(launcher) for job in children_of(server)]


class Watcher(threading.Thread):
    """Reads all runs over and over: what is there must be whole, and what is done must stay."""

    def __init__(self, outputs: Path):
        super().__init__(daemon=True)
        self.outputs, self.ended = outputs, threading.Event()
        self.results: dict[str, str] = {}  # of runs that were seen done
        self.mistakes: list[str] = []
        self.num_read = 0

    def run(self) -> None:
        while not self.ended.wait(0.1):
            for run in find_runs(self.outputs):
                try:
                    self.look_at(run)
                except Exception as error:  # of a file that is there and cannot be used
                    self.mistakes.append(f"{run.name}: {type(error).__name__}: {error}")

    def look_at(self, run: Run) -> None:
        self.mistakes += [f"{fault}" for fault in run.faults if "damaged" in fault.why]
        with contextlib.suppress(FileNotFoundError):
            for file in (run.last, run.best):
                torch.load(file, weights_only=True)  # fails if it is not whole
                self.num_read += 1
            if run.done:
                file = run.path / "metrics.json"
                result = f"{file.stat().st_mtime_ns} {file.read_text()}"
                if self.results.setdefault(run.name, result) != result:
                    self.mistakes.append(f"{run.name} was trained again after it was done")
                    self.results[run.name] = result


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mount a tmpfs of `DISK` MB, if we may; whether we could."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(disk: Path, seconds: float) -> None:
    """Leave no byte free for a while."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    time.sleep(seconds)
    filler.unlink(missing_ok=True)


def leave_a_lock(outputs: Path, rng: random.Random) -> None:
    """What a process leaves in a run that is not being trained when its machine loses power."""
    idle = [run for run in find_runs(outputs) if run.state == "interrupted"]
    if idle:
        folder = rng.choice(idle).path
        (folder / ".lock").touch()
        (folder / "metrics.json.99999.part").write_text('{"test/mse": 0.')


def disturb(event: str, launcher: subprocess.Popen, disk: Path, rng: random.Random) -> None:
    if event in ("kill a job", "kill what forks jobs"):
        find = jobs_of if event == "kill a job" else children_of
        if victims := find(launcher.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
    elif event == "kill the launcher":
        launcher.kill()
        launcher.wait()
    elif event == "fill the disk":
        fill(disk, rng.uniform(1, 4))
    else:
        leave_a_lock(disk / "outputs", rng)


def sweep_under_disturbance(
    disk: Path, log: Path, events: list[str], rng: random.Random, end: float
) -> tuple[Counter, int]:
    """Start the sweep until it ends well, with disturbances before `end`; which there were, and
    how many starts it took."""
    happened, starts = Counter(), 0
    while True:
        launcher = start(disk / "outputs", log)
        starts += 1
        while launcher.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                launcher.wait(rng.uniform(1, 12))
            if launcher.poll() is None and time.monotonic() < end:
                event = rng.choice(events)
                disturb(event, launcher, disk, rng)
                happened[event] += 1
        print(f"start {starts}: exit code {launcher.returncode}", flush=True)
        if launcher.returncode == 0:
            return happened, starts


def compare(expected: Path, outputs: Path) -> list[str]:
    """What is not as in the undisturbed sweep."""
    undisturbed = {run.name: run for run in find_runs(expected)}
    runs = {run.name: run for run in find_runs(outputs)}
    mistakes = [f"{name} is lost" for name in undisturbed.keys() - runs.keys()]
    mistakes += [f"{name} is there besides" for name in runs.keys() - undisturbed.keys()]
    for name in runs.keys() & undisturbed.keys():
        before, after = load_tensors(undisturbed[name]), load_tensors(runs[name])
        same = before.keys() == after.keys() and all(
            torch.equal(before[key], after[key]) for key in before
        )
        if not (same and runs[name].done):
            tensors = "the same" if same else "others"
            mistakes.append(f"{name} is {runs[name].state}, its tensors are {tensors}")
    return mistakes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=240, help="of disturbances")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk") as mounted:
        folder, disk = Path(name), Path(name) / "disk"
        events = [event for event in EVENTS if mounted or event != "fill the disk"]
        if not mounted:
            print("no tmpfs can be mounted here: the disk is never full")
        if start(folder / "undisturbed", folder / "undisturbed.log").wait():
            sys.exit(f"the undisturbed sweep failed:\n{(folder / 'undisturbed.log').read_text()}")
        print(f"undisturbed: {NUM_RUNS} runs, {time.monotonic() - began:.0f} s", flush=True)
        watcher = Watcher(disk / "outputs")
        watcher.start()
        end = time.monotonic() + arguments.seconds
        log = folder / "disturbed.log"
        happened, starts = sweep_under_disturbance(disk, log, events, rng, end)
        watcher.ended.set()
        watcher.join()
        mistakes = [*watcher.mistakes, *compare(folder / "undisturbed", disk / "outputs")]
        if len(watcher.results) > NUM_RUNS or len(find_runs(disk / "outputs")) != NUM_RUNS:
            mistakes.append(f"{len(find_runs(disk / 'outputs'))} runs, not {NUM_RUNS}")
        print(json.dumps(happened))
        print(f"{starts} starts, {watcher.num_read} checkpoints read meanwhile, "
              f"{time.monotonic() - began:.0f} s in all")  # fmt: skip
        if mistakes:
            print(log.read_text()[-5000:])
            sys.exit("\n".join(mistakes))
        print(f"{NUM_RUNS} runs, each trained to its end once, all tensors bitwise the same")


if __name__ == "__main__":
    main()
