"""The cores and GPUs of a machine, divided among jobs."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from ae_lab.core.errors import UserError, check_int

# What tells a numeric library how many threads to start. Jobs side by side that each start one for
# every core wait for each other most of the time.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = filter(None, map(str.strip, named.split(",")))
        return list(takewhile(lambda name: not name.startswith("-"), names))  # as CUDA reads it
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    gpus = [line for line in listed.splitlines() if line.startswith("GPU ")]  # others are slices
    return [str(number) for number in range(len(gpus))]


@dataclass
class Resources:
    """What jobs share: `n_parallel` of them at a time, `threads` for each, and GPUs.

    Raises:
        UserError: one of the numbers is not at least 1.
    """

    n_parallel: int
    threads: int
    gpus: list[str] = field(default_factory=list)

    def __post_init__(self):
        check_int("hydra.launcher.n_parallel", self.n_parallel)
        check_int("hydra.launcher.threads", self.threads)
        self.num_gpus, self.num_jobs = len(self.gpus), 0

    @classmethod
    def of_machine(
        cls,
        n_parallel: int | None = None,
        threads: int | None = None,
        gpus: Sequence[int | str] | None = None,
    ) -> "Resources":
        """What is not given is found out: a job for each GPU, else for each core, between which
        the cores are divided."""
        cores = count_cores()
        names = find_gpus() if gpus is None else list(map(str, gpus))
        if n_parallel is None:
            n_parallel = len(names) or cores
        if threads is None:
            threads = max(1, cores // check_int("hydra.launcher.n_parallel", n_parallel))
        return cls(n_parallel, threads, names)

    def take(self, num_devices: int, on_gpu: bool) -> "Share | None":
        """A job's share, None while others have it.

        Raises:
            UserError: the job asks for more GPUs than there are.
        """
        wanted = num_devices if on_gpu and self.num_gpus else 0
        if wanted > self.num_gpus:
            raise UserError(
                f"trainer.devices={num_devices} is more than the {self.num_gpus} GPUs there are"
            )
        if self.num_jobs == self.n_parallel or wanted > len(self.gpus):
            return None
        self.num_jobs += 1
        taken, self.gpus = self.gpus[:wanted], self.gpus[wanted:]
        return Share(max(1, self.threads // num_devices), taken)

    def give_back(self, share: "Share") -> None:
        self.num_jobs -= 1
        self.gpus = sorted([*self.gpus, *share.gpus])


@dataclass(frozen=True)
class Share:
    """What one job may use: threads in each of its processes, and GPUs."""

    threads: int
    gpus: list[str]

    @property
    def environment(self) -> dict[str, str]:
        variables = dict.fromkeys(THREADS, str(self.threads))
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return variables
