"""A sweep on a local Ray, one of whose workers is killed: `make test-ray`.

It ends with all runs done, whose tensors are to the bit those of a sweep by `basic`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ae_lab.tracking.registry import find_runs
from tests.benchmarks.kills import load_tensors

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "-m", "data=mnist5k", "data.limit=1000"),
    *("hidden=[32]", "latent=2,3,4", "epochs=60", "batch_size=50", "checkpoint_seconds=0.1"),
    *("trainer.enable_progress_bar=false", "logger=none", "hydra.callbacks.sweep.columns=[]"),
]


def start(outputs: Path, *words: str) -> subprocess.Popen:
    log = outputs.with_suffix(".log").open("w")
    return subprocess.Popen(
        [*COMMAND, f"paths.outputs={outputs}", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=log, stderr=log,
    )  # fmt: skip


def workers() -> list[int]:
    """Ray's workers that run a job."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (entry / "cmdline").read_bytes()
            if title.startswith(b"ray::_run_job"):  # agents of Ray's own are ray::... too
                found.append(int(entry.name))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        basic, by_ray = Path(name) / "basic", Path(name) / "ray"
        if start(basic).wait():
            sys.exit(f"the sweep by basic failed:\n{basic.with_suffix('.log').read_text()}")
        print("by basic: done", flush=True)
        sweep = start(by_ray, "hydra/launcher=ray")
        checkpoints = "runs/*/checkpoints/last.ckpt"
        while sweep.poll() is None and len(list(by_ray.glob(checkpoints))) < len(workers() or [0]):
            time.sleep(0.05)
        killed = workers()[:1]
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        print(f"killed {len(killed)} worker", flush=True)
        code = sweep.wait()
        log = by_ray.with_suffix(".log").read_text()
        runs = {run.name: run for run in find_runs(by_ray)}
        expected = {run.name: run for run in find_runs(basic)}
        same = runs.keys() == expected.keys() and all(run.done for run in runs.values())
        for run_name in expected if same else ():
            before, after = load_tensors(expected[run_name]), load_tensors(runs[run_name])
            same &= all(torch.equal(before[key], after[key]) for key in before)
        print(f"exit code {code}, {len(runs)} runs, {log.count('resumed at step')} resumed, "
              f"{'bitwise as by basic' if same else 'NOT as by basic'}")  # fmt: skip
        if not (same and killed and code == 0):
            sys.exit(log[-3000:])


if __name__ == "__main__":
    main()
