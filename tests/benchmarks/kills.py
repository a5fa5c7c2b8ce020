"""Kill runs with SIGKILL, resume them, compare: `make kills`.

A run that is killed once and then resumed until it is done must end with the same tensors, bit for
bit, as one that was never disturbed.

- Each family of `conf/model`, tiny, is killed within an epoch and in a validation.
- One run is killed at seeded moments, a third of them while a checkpoint is being written.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ae_lab.tracking.registry import find_runs
from ae_lab.tracking.run import Run
from ae_lab.training.trainer import quiet_libraries
from tests.building import FAMILIES
from tests.steps import check_family, load_tensors

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "data=mnist5k", "noise=gaussian", "dropout=0.1"),
    *("latent=5", "epochs=12", "checkpoint_seconds=0.1", "trainer.enable_progress_bar=false"),
]


def start(outputs: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, f"paths.outputs={outputs}"], env=environment, **quiet)


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


def kill_families(families: Sequence[str]) -> int:
    """Kill each family twice; how many ended otherwise than undisturbed."""
    num_different = 0
    for family in families:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = ", ".join(check_family(family, Path(folder), ["training", "validation"]))
            except AssertionError as error:
                num_different += 1
                outcome = f"DIFFERENT {error}"
        print(f"{family} · {outcome}", flush=True)
    print(f"{len(families)} families, {num_different} different")
    return num_different


def kill_at_random(num_kills: int, seed: int) -> int:
    """Kill one run at seeded moments; how many ended otherwise than undisturbed."""
    num_different = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        if start(undisturbed).wait():
            sys.exit("the undisturbed run failed")
        expected = load_tensors(only_run(undisturbed))
        print(f"undisturbed: {len(expected)} tensors")
        for number in range(num_kills):
            rng = random.Random(seed * 1000 + number)
            outputs = Path(folder) / f"kill{number}"
            moment = kill(start(outputs), outputs, rng, saving=number % 3 == 0)
            code = start(outputs).wait()
            tensors = load_tensors(only_run(outputs))
            same = tensors.keys() == expected.keys() and all(
                torch.equal(tensors[name], expected[name]) for name in expected
            )
            num_different += not same or code != 0
            print(f"kill {number:2d} {moment:14s} {'same' if same else 'DIFFERENT'}", flush=True)
    print(f"{num_kills} kills, {num_kills - num_different} ended bitwise the same")
    return num_different


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kills")
    parser.add_argument("--families", nargs="*", default=FAMILIES)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet_libraries()
    num_different = kill_families(arguments.families)
    if arguments.kills:
        num_different += kill_at_random(arguments.kills, arguments.seed)
    sys.exit(num_different > 0)


if __name__ == "__main__":
    main()
