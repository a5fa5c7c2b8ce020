"""Kill a run with SIGKILL at seeded moments, resume it, compare: `make kills`.

For each kill: a run that is killed once and then resumed until it is done must end with the same
tensors, bit for bit, as one that was never disturbed. A third of the kills strike while a
checkpoint is being written.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "data=mnist5k", "noise=gaussian", "dropout=0.1"),
    *("latent=5", "epochs=12", "checkpoint_seconds=0.1", "trainer.enable_progress_bar=false"),
]


def start(outputs: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, f"paths.outputs={outputs}"], env=environment, **quiet)


def load_tensors(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of both checkpoints, last and best, those of the optimiser too, by their path."""
    tensors = {}

    def collect(node: object, path: str) -> None:
        if isinstance(node, torch.Tensor):
            tensors[path] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}/{key}")
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                collect(value, f"{path}/{index}")

    for file in (run.last, run.best):
        collect(torch.load(file, weights_only=True), file.name)
    return tensors


def only_run(outputs: Path) -> Run:
    [run] = find_runs(outputs)
    return run


def kill(process: subprocess.Popen, outputs: Path, rng: random.Random, saving: bool) -> str:
    """Kill a process at a random moment, or while it saves a checkpoint; returns when that was.

    Some random moments come before the first epoch has ended.
    """
    while process.poll() is None and not list(outputs.glob("runs/*/history.csv")):
        time.sleep(0.002)
        if not saving and rng.random() < 0.0005:
            break
    end = time.monotonic() + rng.uniform(0, 1.5)
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    while saving and process.poll() is None:
        if list(outputs.glob("runs/*/checkpoints/*.part")):
            time.sleep(rng.uniform(0, 0.004))
            break
    if process.poll() is not None:
        return "was done"
    process.send_signal(signal.SIGKILL)
    process.wait()
    unfinished = list(outputs.glob("runs/*/checkpoints/*.part"))
    return "while saving" if unfinished else "between saves"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kills")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    num_different = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        if start(undisturbed).wait():
            sys.exit("the undisturbed run failed")
        expected = load_tensors(only_run(undisturbed))
        print(f"undisturbed: {len(expected)} tensors")
        for number in range(arguments.kills):
            rng = random.Random(arguments.seed * 1000 + number)
            outputs = Path(folder) / f"kill{number}"
            moment = kill(start(outputs), outputs, rng, saving=number % 3 == 0)
            code = start(outputs).wait()
            tensors = load_tensors(only_run(outputs))
            same = tensors.keys() == expected.keys() and all(
                torch.equal(tensors[name], expected[name]) for name in expected
            )
            num_different += not same or code != 0
            print(f"kill {number:2d} {moment:14s} {'same' if same else 'DIFFERENT'}", flush=True)
    print(f"{arguments.kills} kills, {arguments.kills - num_different} ended bitwise the same")
    sys.exit(num_different > 0)


if __name__ == "__main__":
    main()
