"""What `hydra/launcher=local` gains over `basic`: `python -m tests.benchmarks.launcher_speed`.

The same sweep of single-thread jobs is trained by `local`, as many side by side as there are cores,
by `basic` with one thread, and by `basic` with all of them. Each in a folder of its own. Overrides
go to each job: `python -m tests.benchmarks.launcher_speed batch_size=32 epochs=40`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ae_lab.launching.resources import count_cores

COMMAND = [
    *(sys.executable, "-m", "ae_lab.train", "-m", "data=mnist5k", "logger=none"),
    *("trainer.enable_progress_bar=false", "trainer.precision=32-true"),
    *("hydra.callbacks.sweep.columns=[]",),
]


def measure(words: list[str], threads: int | None) -> float:
    """The seconds that a sweep takes."""
    environment = dict(os.environ)
    environment.pop("OMP_NUM_THREADS", None)
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as file:
            began = time.perf_counter()
            code = subprocess.call(
                [*COMMAND, *words, f"paths.outputs={folder}/outputs"],
                env=environment, stdout=file, stderr=file,
            )  # fmt: skip
            seconds = time.perf_counter() - began
        if code:
            sys.exit(log.read_text())
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.launcher_speed")
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument(
        "overrides", nargs="*", default=["epochs=60"], help="of each job, by default some 30 s"
    )
    arguments = parser.parse_args()
    cores = count_cores()
    words = [f"seed=range({arguments.jobs})", *arguments.overrides]
    local = measure([*words, "hydra/launcher=local", f"hydra.launcher.n_parallel={cores}"], None)
    print(f"local, {cores} jobs of one thread side by side: {local:.0f} s", flush=True)
    for threads in (1, cores):
        basic = measure(words, threads)
        print(f"basic, {threads} threads: {basic:.0f} s; ratio {local / basic:.2f}", flush=True)


if __name__ == "__main__":
    main()
