"""Kill a run with SIGKILL at seeded moments, go on, compare: `make kills`.

For each kill: a run that is killed once (or more often, until it is done) must end with the same
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

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "data=mnist5k", "noise=gaussian", "dropout=0.1"),
    *("latent=5", "epochs=12", "checkpoint_seconds=0.1", "trainer.enable_progress_bar=false"),
]


def start(outputs: Path) -> subprocess.Popen:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*COMMAND, f"paths.outputs={outputs}"], env=environment, **quiet)


def tensors(outputs: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last and the best checkpoint, the optimiser's among them."""
    found = {}

    def collect(node: object, path: str) -> None:
        if isinstance(node, torch.Tensor):
            found[path] = node
        elif isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}/{key}")
        elif isinstance(node, list | tuple):
            for index, value in enumerate(node):
                collect(value, f"{path}/{index}")

    for file in outputs.glob("runs/*/checkpoints/*.ckpt"):
        collect(torch.load(file, weights_only=True), file.name)
    return found


def strike(process: subprocess.Popen, outputs: Path, chance: random.Random, saving: bool) -> str:
    """Kill after the first checkpoint began, at a random moment or while one is being written."""
    while process.poll() is None and not list(outputs.glob("runs/*/history.csv")):
        time.sleep(0.002)
        if not saving and chance.random() < 0.0005:
            break
    end = time.monotonic() + chance.uniform(0, 1.5)
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.001)
    while saving and process.poll() is None:
        if list(outputs.glob("runs/*/checkpoints/*.part")):
            time.sleep(chance.uniform(0, 0.004))
            break
    if process.poll() is not None:
        return "was done"
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = list(outputs.glob("runs/*/checkpoints/*.part"))
    return "while saving" if half else "between saves"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.kills")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    different = 0
    with tempfile.TemporaryDirectory() as folder:
        undisturbed = Path(folder) / "undisturbed"
        if start(undisturbed).wait():
            sys.exit("the undisturbed run failed")
        wanted = tensors(undisturbed)
        print(f"undisturbed: {len(wanted)} tensors")
        for number in range(asked.kills):
            chance = random.Random(asked.seed * 1000 + number)
            outputs = Path(folder) / f"kill{number}"
            how = strike(start(outputs), outputs, chance, saving=number % 3 == 0)
            code = start(outputs).wait()
            got = tensors(outputs)
            same = got.keys() == wanted.keys() and all(
                torch.equal(got[name], wanted[name]) for name in wanted
            )
            different += not same or code != 0
            print(f"kill {number:2d} {how:14s} {'same' if same else 'DIFFERENT'}", flush=True)
    print(f"{asked.kills} kills, {asked.kills - different} ended bitwise the same")
    sys.exit(different > 0)


if __name__ == "__main__":
    main()
