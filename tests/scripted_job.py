"""A job that says who it is, and does as it is told: `python -m tests.scripted_job RUN SCRIPT`."""

import json
import os
import signal
import sys
import time
from pathlib import Path

VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "AE_LAB_OUTCOME", "AE_LAB_TEST")


def be_done(run: Path) -> None:
    run.mkdir(parents=True)
    (run / "status.json").write_text('{"state": "done"}')


def be_killed(run: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(run: Path) -> None:
    print("the disk is on fire")
    sys.exit(3)


def take_long(run: Path) -> None:
    time.sleep(60)


def wait_until_told(run: Path) -> None:
    while not Path(f"{run}.told").exists():
        time.sleep(0.01)


def be_done_when_told(run: Path) -> None:
    wait_until_told(run)
    be_done(run)


def be_killed_when_told(run: Path) -> None:
    wait_until_told(run)
    be_killed(run)


def main() -> None:
    run = Path(sys.argv[1])

    def end(*_) -> None:
        Path(f"{run}.interrupted").touch()
        sys.exit(1)

    signal.signal(signal.SIGINT, end)
    outcome = {"overrides": [], "choices": {}, "run": str(run)}
    Path(os.environ["AE_LAB_OUTCOME"]).write_text(json.dumps(outcome))
    facts = {name: os.environ.get(name) for name in VARIABLES}
    facts |= {"pid": os.getpid(), "parent": os.getppid(), "session": os.getsid(0)}
    part = Path(f"{run}.json.part")
    part.write_text(json.dumps(facts))
    part.rename(f"{run}.json")
    globals()[sys.argv[2]](run)


if __name__ == "__main__":
    main()
