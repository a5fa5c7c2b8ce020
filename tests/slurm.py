"""A sweep on a real Slurm: `make test-slurm`, on Debian's slurm-wlm and munge.

A cluster of one node is started on loopback. A sweep by `hydra/launcher=submitit_slurm` runs there;
one job is cancelled, one reaches its time limit and is queued again. The same command ends with all
runs done, whose tensors are to the bit those of a sweep by `basic`.

Slurm's accounting needs a database. In its place `sacct`, which submitit asks how jobs are, is a
script here that asks the controller.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch

from ae_lab.tracking.registry import find_runs
from tests.benchmarks.kills import load_tensors

SECONDS = "AE_LAB_TEST_SECONDS"  # that an epoch takes at least, where the jobs run
WORDS = ["data=mnist5k", "data.limit=200", "hidden=[16]", "latent=2,3,4", "epochs=40"]
WORDS += ["checkpoint_seconds=0.1", "trainer.enable_progress_bar=false", "logger=none"]
WORDS += ["+callbacks.slow._target_=tests.slurm.Slow", "hydra.callbacks.sweep.columns=[]"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=2"]
SLURM += ["hydra.launcher.signal_delay_s=20", "hydra.launcher.cpus_per_task=1"]
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
MpiDefault=none
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,sched_interval=2,requeue_delay=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldPort=16817
SlurmdPort=16818
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SACCT = r"""#!/bin/sh
echo 'JobID|State|NodeList'
jobs=$(scontrol --oneliner show job 2>/dev/null)
state='.*JobState=([A-Z_]+) .*'
echo "$jobs" | sed -En "s/.*ArrayJobId=([0-9]+) ArrayTaskId=([0-9]+) $state/\1_\2|\3|/p"
echo "$jobs" | grep -v ArrayTaskId | sed -En "s/^JobId=([0-9]+) $state/\1|\2|/p"
"""


class Slow(pl.Callback):
    """Makes an epoch last, where the environment says so."""

    def on_train_epoch_end(self, trainer, module) -> None:
        time.sleep(float(os.environ.get(SECONDS, 0)))


@contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a cluster of one node; the environment in which its commands work."""
    host = socket.gethostname().partition(".")[0]
    for name in ("spool", "state", "bin"):
        (folder / name).mkdir()
    (folder / "slurm.conf").write_text(CONFIGURATION.format(host=host, folder=folder))
    sacct = folder / "bin" / "sacct"
    sacct.write_text(SACCT)
    sacct.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    environment = os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    munge = ["munged", "--force", "--foreground", f"--socket={folder}/munge.socket"]
    munge += [f"--key-file={key}", f"--pid-file={folder}/munge.pid", f"--seed-file={folder}/seed"]
    munge += [f"--log-file={folder}/munge.log"]
    daemons = []
    with (folder / "daemons.log").open("w") as log:
        for command in (munge, ["slurmctld", "-D", "-i"], ["slurmd", "-D", "-N", host]):
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(2)
        try:
            wait_for_node(environment, folder)
            yield environment
        finally:
            subprocess.run(["scancel", "--user=root"], env=environment, check=False)
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    daemon.wait(10)


def wait_for_node(environment: dict[str, str], folder: Path) -> None:
    for _ in range(60):
        shown = subprocess.run(
            ["sinfo", "-h", "-o", "%T"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if shown.stdout.strip() == "idle":
            return
        time.sleep(1)
    logs = "\n".join(file.read_text()[-2000:] for file in folder.glob("*.log"))
    sys.exit(f"the node does not come up: {shown.stdout}{shown.stderr}\n{logs}")


def train(outputs: Path, log: Path, words: list[str], environment: dict[str, str]):
    """Start a sweep."""
    command = [sys.executable, "-m", "ae_lab.train", "-m", *WORDS, *words]
    with log.open("a") as file:
        return subprocess.Popen(
            [*command, f"paths.outputs={outputs}"], env=environment, stdout=file, stderr=file
        )


def cancel_one(environment: dict[str, str], outputs: Path) -> str:
    """Cancel a job once a run has a checkpoint."""
    while not list(outputs.glob("runs/*/checkpoints/last.ckpt")):
        time.sleep(1)
    shown = subprocess.run(
        ["squeue", "-h", "-r", "-t", "R", "-o", "%i"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    job = shown.stdout.split()[0]
    subprocess.run(["scancel", job], env=environment, check=True)
    return job


def main() -> None:
    if missing := [name for name in ("slurmctld", "slurmd", "munged") if not shutil.which(name)]:
        sys.exit(f"{', '.join(missing)} are not here: apt-get install slurm-wlm munge")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        log, outputs = folder / "sweep.log", folder / "slurm"
        if train(folder / "basic", folder / "basic.log", [], dict(os.environ)).wait():
            sys.exit(f"the sweep by basic failed:\n{(folder / 'basic.log').read_text()}")
        print("by basic: done", flush=True)
        with cluster(folder) as environment:
            environment |= {SECONDS: "4"}  # 40 epochs: beyond the limit
            sweep = train(outputs, log, SLURM, environment)
            print(f"cancelled job {cancel_one(environment, outputs)}", flush=True)
            for start in range(1, 5):
                code = sweep.wait()
                print(f"start {start}: exit code {code}, "
                      f"{[run.state for run in find_runs(outputs)]}", flush=True)  # fmt: skip
                if code == 0:
                    break
                sweep = train(outputs, log, SLURM, environment)
        logs = [file.read_text() for file in outputs.glob("sweeps/*/.submitit/*/*.out")]
        for what in ("has timed out", "Requeued", "resumed at step"):
            print(f"'{what}' in the logs: {sum(one.count(what) for one in logs)}")
        runs = {run.name: run for run in find_runs(outputs)}
        basic = {run.name: run for run in find_runs(folder / "basic")}
        same = runs.keys() == basic.keys() and all(run.done for run in runs.values())
        for run_name in basic if same else ():
            before, after = load_tensors(basic[run_name]), load_tensors(runs[run_name])
            same &= all(torch.equal(before[key], after[key]) for key in before)
        print(f"{len(runs)} runs, {'bitwise as by basic' if same else 'NOT as by basic'}")
        if not same:
            sys.exit(log.read_text()[-3000:])


if __name__ == "__main__":
    main()
