"""`hydra/launcher=local`: each job of a sweep in a process of its own."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from ae_lab.core import command, configuration
from ae_lab.launching import process
from ae_lab.launching.fork_server import ForkServer
from ae_lab.launching.process import JobProcess, may_fork
from ae_lab.launching.resources import Resources, Share
from ae_lab.launching.table import SweepTable
from ae_lab.tracking.finished import find_known_run, print_done
from ae_lab.tracking.sweeps import record_outcomes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL = 0.1  # seconds between two looks at the processes
RECORD = 1.0  # seconds between two looks at runs that others train, and two writes of the record


class LocalLauncher(Launcher):
    """Runs jobs side by side on this machine, `n_parallel` at a time, one for each GPU or core
    unless told; `threads` for each, the cores divided among them unless told; `gpus` as
    CUDA_VISIBLE_DEVICES lists them, those there are unless told."""

    def __init__(
        self,
        n_parallel: int | None = None,
        threads: int | None = None,
        gpus: Sequence[int | str] | None = None,
    ):
        self.options = {"n_parallel": n_parallel, "threads": threads, "gpus": gpus}
        self.server = ForkServer("ae_lab.training.job")

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.resources = Resources.of_machine(**self.options)

    def warm_up(self) -> None:
        """Have what jobs import imported while this process does something else."""
        share = Share(self.resources.threads, self.resources.gpus)
        if may_fork(share):
            self.server.open({**os.environ, **share.environment})

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        setup_globals()
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        shared = (
            set(job_overrides[0]).intersection(*job_overrides) if len(job_overrides) > 1 else {}
        )
        jobs = []
        for number, words in enumerate(job_overrides, start=initial_job_idx):
            title = " ".join(["job", str(number), *(word for word in words if word not in shared)])
            jobs.append(JobProcess(number, list(words), folder, title))
        sweep = LocalSweep(jobs, self.resources, self.server, self.compose)
        sweep.fail_fast = self.config.sweep.fail_fast
        sweep.run()
        return [job_return(job) for job in jobs]

    def compose(self, job: JobProcess) -> DictConfig:
        """The configuration that the job's process will compose for itself."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, job.overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = job.number
        return config


def job_return(job: JobProcess) -> JobReturn:
    """What Hydra's sweepers are told of a job: the metrics of its run, None where it has none."""
    metrics = job.run.metrics if job.state in (process.DONE, process.PRUNED) else None
    return JobReturn(
        overrides=job.overrides, cfg=job.config, status=JobStatus.COMPLETED, _return_value=metrics
    )


class LocalSweep:
    """Jobs on their way to an end, each to its own.

    Finished runs are found here, without a process. A run that another process trains is left to
    it: others are taken first, and it is looked at again until it is done, or free.
    """

    def __init__(
        self,
        jobs: list[JobProcess],
        resources: Resources,
        server: ForkServer,
        compose: Callable[[JobProcess], DictConfig],
    ):
        self.jobs, self.resources, self.server, self.compose = jobs, resources, server, compose
        self.waiting = list(jobs)
        self.fail_fast = self.stopping = self.interrupted = False
        self.unrecorded: dict[int, dict] = {}
        self.recorded_at = 0.0

    def run(self) -> None:
        """Run all jobs; a signal ends the process once they have saved what they had."""
        with self.signals_handled(), SweepTable(self.jobs) as table:
            while self.is_going_on():
                if not self.advance():
                    time.sleep(POLL)
                table.show()
        self.record()
        if self.interrupted:
            count = sum(job.state == process.DONE for job in self.jobs)
            print(f"interrupted: {count} of {len(self.jobs)} jobs are done; rerun the command to "
                  "go on")  # fmt: skip
            sys.exit(128 + signal.SIGINT)

    def is_going_on(self) -> bool:
        states = [job.state for job in self.jobs]
        if self.stopping:
            return process.RUNNING in states
        return any(state not in process.ENDED for state in states)

    def advance(self) -> bool:
        """See what has ended and start what can be; whether something has changed."""
        changed = False
        for job in self.in_state(process.RUNNING):
            if job.poll(self.stopping):
                changed = True
                self.resources.give_back(job.share)
                self.settle(job)
        if time.monotonic() - self.recorded_at > RECORD:
            self.record()
            for job in self.in_state(process.ELSEWHERE):
                self.look_again(job)
        if self.waiting and not self.stopping:
            changed |= self.start_next()
        return changed

    def in_state(self, state: str) -> list[JobProcess]:
        return [job for job in self.jobs if job.state == state]

    def settle(self, job: JobProcess) -> None:
        """Note how a job ended, or that another process has its run."""
        if job.state in (process.DONE, process.PRUNED, process.FAILED):
            self.unrecorded[job.number] = job.outcome()
        if job.state == process.ELSEWHERE:  # a sweep of the same jobs: go through them otherwise
            random.shuffle(self.waiting)
        if job.state == process.FAILED and self.fail_fast:
            print("sweep.fail_fast: no more jobs are started, and those that run are interrupted")
            self.stop()

    def start_next(self) -> bool:
        """Start the first job that waits, if it needs to and there is room; whether it has left
        those that wait."""
        job = self.waiting[0]
        try:
            self.prepare(job)
            if job.state == process.WAITING:
                share = self.resources.take(job.num_devices, job.on_gpu)
                if share is None:
                    return False
                job.start(share, self.server)
                if self.stopping:  # a signal came before there was a process to hand it to
                    job.send(signal.SIGINT)
        except Exception as error:
            if job.share is not None:
                self.resources.give_back(job.share)
            job.fail(command.explain_error(error))
        self.waiting.remove(job)
        if job.state != process.RUNNING:
            self.settle(job)
        return True

    def prepare(self, job: JobProcess) -> None:
        """Compose a job's configuration, and see whether its run is done or being trained."""
        if job.config is None:
            job.config = self.compose(job)
            job.run = find_known_run(task_configuration(job.config))
        if job.config.force or job.run is None:
            return
        if job.run.state == process.RUNNING:
            job.state = process.ELSEWHERE
        elif job.run.done and not job.run.faults:
            job.state = process.DONE
            print_done(job.run)

    def look_again(self, job: JobProcess) -> None:
        """See whether a run that another process trained is done, or left for us."""
        if job.run.state == process.RUNNING:
            return
        job.state = process.WAITING
        self.waiting.append(job)

    def record(self) -> None:
        """Write to the sweep's file how jobs ended since the last time."""
        if self.unrecorded:
            record_outcomes(self.jobs[0].folder, self.unrecorded)
            self.unrecorded = {}
        self.recorded_at = time.monotonic()

    def stop(self, kind: signal.Signals = signal.SIGINT) -> None:
        """Start no more jobs, and tell those that run to save and end."""
        self.stopping = True
        for job in self.in_state(process.RUNNING):
            job.send(kind)

    @contextmanager
    def signals_handled(self) -> Iterator[None]:
        """Within the block the first signal stops the sweep, the second kills its jobs."""

        def handle(number, frame) -> None:
            self.stop(signal.SIGKILL if self.interrupted else signal.SIGINT)
            self.interrupted = True

        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            if before[number] != signal.SIG_IGN or number == signal.SIGINT:
                signal.signal(number, handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for job in self.in_state(process.RUNNING):  # an error of ours ends the sweep
                job.send(signal.SIGINT)


def task_configuration(config: DictConfig) -> DictConfig:
    """A job's configuration as its task gets it, its folders as they are from here."""
    ours = configuration.without_hydra(config)
    with suppress(Exception):  # a mistake in it is for the job to explain
        configuration.resolve_paths(ours)
    return ours
