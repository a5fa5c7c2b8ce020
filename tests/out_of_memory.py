"""A job of a sweep that allocates until the kernel kills it: `python -m tests.out_of_memory`.

The sweep runs in a control group of its own, of `MEMORY` bytes, as root. The job is one failed row
that says why; the two others are done.
"""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytorch_lightning as pl

from ae_lab.tracking.registry import find_runs

MEMORY = 3 << 30
GROUP = Path("/sys/fs/cgroup/memory/ae_lab_test")
LIMIT, PROCESSES = "memory.limit_in_bytes", "cgroup.procs"
if not GROUP.parent.is_dir():  # of version 2
    GROUP, LIMIT = Path("/sys/fs/cgroup/ae_lab_test"), "memory.max"


class Hog(pl.Callback):
    """Takes memory at the end of the first batch, all there is if `all_of_it`."""

    def __init__(self, all_of_it: bool):
        self.all_of_it, self.taken = all_of_it, []

    def on_train_batch_end(self, *_) -> None:
        while self.all_of_it:
            self.taken.append(np.ones(1 << 24))  # 128 MB


@contextmanager
def control_group():
    """A group whose processes have `MEMORY` bytes together."""
    try:
        GROUP.mkdir()
    except OSError as error:
        sys.exit(f"{GROUP} cannot be made ({error.strerror}): run this as root")
    (GROUP / LIMIT).write_text(str(MEMORY))
    try:
        yield
    finally:
        with suppress(OSError):
            GROUP.rmdir()


def main() -> None:
    command = [
        *(sys.executable, "-m", "ae_lab.train", "-m", "hydra/launcher=local", "latent=2"),
        *("hydra.launcher.n_parallel=1", "data=mnist5k", "data.limit=500", "epochs=2"),
        *("+callbacks.hog._target_=tests.out_of_memory.Hog",),
        *("+callbacks.hog.all_of_it=false,true", "seed=0,1", "trust=[tests]"),
        *("trainer.enable_progress_bar=false", "hydra.callbacks.sweep.columns=[]"),
    ]
    with tempfile.TemporaryDirectory() as folder, control_group():
        done = subprocess.run(
            [*command, f"paths.outputs={folder}/outputs"], capture_output=True, text=True,
            check=False, preexec_fn=lambda: (GROUP / PROCESSES).write_text(str(os.getpid())),
        )  # fmt: skip
        print(done.stdout)
        states = sorted(run.state for run in find_runs(f"{folder}/outputs"))
    assert done.returncode == 1, done.stderr
    assert states == ["done", "done", "interrupted", "interrupted"], states
    assert done.stdout.count("memory") >= 2, "the reason is not said"
    print("two jobs were killed for memory, each a row that says so; the two others are done")


if __name__ == "__main__":
    main()
