"""How the registry of runs answers at 10 to 10,000 runs.

    python -m tests.benchmarks.registry_scale

One run is trained, and copied to runs of other seeds: folders whose files are what training would
have left, but for the numbers. Measured are the table of all runs, and a second sweep over finished
ones, beside a Hydra sweep over the same configuration whose jobs do nothing.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from ae_lab.core import configuration
from ae_lab.core.files import write_json
from ae_lab.tracking.identity import digest
from ae_lab.tracking.registry import find_runs

TRAIN = [sys.executable, "-m", "ae_lab.train"]
SMALL = ["data=mnist5k", "data.limit=100", "epochs=1", "hidden=[16]", "latent=2"]
SMALL += ["trainer.enable_progress_bar=false", "logger=none"]
NOTHING = """
import sys
import hydra
@hydra.main(version_base="1.3", config_path={folder!r}, config_name="config")
def main(config):
    pass
sys.argv[1:] += ["~hydra.callbacks.sweep", "hydra.sweep.dir=nothing"]
sys.argv[1:] += ["hydra/launcher=basic", "hydra/sweeper=basic"]
main()
"""


def run_command(command: list[str], folder: Path) -> float:
    """The seconds of a processor that a command takes, its start included: on a machine that does
    nothing else, what a person waits."""
    before = used_by_children()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return used_by_children() - before


def used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def copy_run(source: Path, seed: int) -> None:
    """The folder of a run as it would be with another seed; its checkpoint is a link."""
    record = json.loads((source / "run.json").read_text())
    for part in ("identity", "configuration"):
        record[part] |= {key: seed for key in record[part] if key.rpartition(".")[2] == "seed"}
    target = source.parent / f"copy-seed{seed}-{digest(record['identity'])}"
    kinds = ("*.json", "*.csv", ".hydra/*.yaml", "evaluations/*.json")
    for file in (path for kind in kinds for path in source.glob(kind)):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    (target / "checkpoints").mkdir()
    os.link(source / "checkpoints" / "best.ckpt", target / "checkpoints" / "best.ckpt")
    write_json(target / "run.json", record)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.registry_scale")
    parser.add_argument("--counts", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--jobs", type=int, nargs="+", default=[12, 100], help="of the sweep")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_command([*TRAIN, "-m", *SMALL, "seed=0"], folder)
        [source] = [run.path for run in find_runs(folder / "outputs")]
        empty = min(run_command([sys.executable, "-m", "ae_lab.runs", "--help"], folder)
                    for _ in range(arguments.rounds))  # fmt: skip
        print("| runs | table of all, s | ms a run, without the start |\n|---|---|---|")
        count = 1
        for wanted in arguments.counts:
            for seed in range(count, wanted):
                copy_run(source, seed)
            count = wanted
            table = [sys.executable, "-m", "ae_lab.runs"]
            seconds = median(run_command(table, folder) for _ in range(arguments.rounds))
            print(f"| {count:,} | {seconds:.2f} | {1000 * (seconds - empty) / count:.2f} |",
                  flush=True)  # fmt: skip
        print(f"\nAmong {count:,} runs\n\n| jobs, all done | Hydra, jobs that do nothing, s | "
              "launcher | s | ratio |\n|---|---|---|---|---|")  # fmt: skip
        script = folder / "nothing.py"
        script.write_text(NOTHING.format(folder=str(configuration.CONF)))
        for jobs in arguments.jobs:
            words = ["-m", *SMALL, f"seed=range({jobs})"]
            for launcher in ("basic", "local"):
                pairs = []
                for _ in range(arguments.rounds):
                    nothing = run_command([sys.executable, str(script), *words], folder)
                    sweep = [*TRAIN, *words, f"hydra/launcher={launcher}"]
                    pairs.append((run_command(sweep, folder), nothing))
                ours, nothing = (median(values) for values in zip(*pairs, strict=True))
                ratio = median(one / other for one, other in pairs)
                print(f"| {jobs} | {nothing:.2f} | {launcher} | {ours:.2f} | {ratio:.2f} |",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
