"""How the jobs of a sweep are: a live table on a terminal, else a line whenever one changes."""

from collections import Counter

from rich.live import Live
from rich.table import Table

from ae_lab.core.console import plain_console
from ae_lab.launching import process
from ae_lab.launching.process import JobProcess

MAX_ROWS = 20  # of more jobs those that run are shown
STYLES = {process.RUNNING: "cyan", process.DONE: "green", process.FAILED: "red"}


class SweepTable:
    """Shows jobs while the block runs."""

    def __init__(self, jobs: list[JobProcess]):
        self.jobs = jobs
        self.states = {job.number: job.state for job in jobs}
        console = plain_console()
        self.live = None
        if console.is_terminal:
            self.live = Live(console=console, refresh_per_second=2, get_renderable=self.tabulate)

    def __enter__(self) -> "SweepTable":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error) -> None:
        self.show()
        if self.live:
            self.live.stop()

    def show(self) -> None:
        """Print a line for each job whose state is another than before."""
        for job in self.jobs:
            if job.state != self.states[job.number]:
                self.states[job.number] = job.state
                if job.state != process.DONE or job.share:  # else it was found done, and said so
                    print(describe_state(job), flush=True)

    def tabulate(self) -> Table:
        counts = Counter(job.state for job in self.jobs)
        title = ", ".join(f"{number} {state}" for state, number in counts.items())
        table = Table(title=f"{len(self.jobs)} jobs: {title}", title_justify="left")
        table.add_column("job", overflow="fold")
        for heading in ("state", "epoch", "val PSNR dB", "time left"):
            table.add_column(heading, justify="right", no_wrap=True)
        shown = self.jobs
        if len(shown) > MAX_ROWS:
            shown = [job for job in shown if job.state in (process.RUNNING, process.ELSEWHERE)]
        for job in shown:
            table.add_row(job.title, *cells(job), style=STYLES.get(job.state))
        return table


def cells(job: JobProcess) -> tuple[str, str, str, str]:
    """A job's state, epoch, PSNR and time left."""
    if job.state not in (process.RUNNING, process.ELSEWHERE):
        return job.state, "", "", ""
    done, total, psnr, left = job.progress()
    return (
        job.state,
        f"{done} / {total}",
        "–" if psnr is None else f"{psnr:.2f}",
        "–" if left is None else format_seconds(left),
    )


def format_seconds(seconds: float) -> str:
    """
    >>> format_seconds(3725)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def describe_state(job: JobProcess) -> str:
    """A line on what has happened to a job."""
    if job.state == process.RUNNING:
        share = job.share
        gpus = f", GPU {','.join(share.gpus)}" if share.gpus else ""
        resources = f"process {job.process.pid}, {share.threads} threads{gpus}"
        return f"{job.title}: started, {resources}, output in {job.log}"
    if job.state == process.DONE:
        psnr = job.run.metrics.get("test/psnr")
        number = "" if psnr is None else f", test PSNR {psnr:.2f} dB"
        return f"{job.title}: done{number}: {job.run.path}"
    more = {
        process.FAILED: f": {job.why}",
        process.ELSEWHERE: f": another process trains {job.run and job.run.path}",
    }
    return f"{job.title}: {job.state}{more.get(job.state, '')}"
