"""An experiment: a file in experiments/ that says what is claimed, what is run and what is drawn.

It opens with comments, `# Claim: ...`, `# Report: ...`, `# Expected ...: ...`, `# Command: ...`,
each of one line or more, which the report page quotes. `hydra.sweeper.params` is its sweep,
`run_metrics` are numbers of each run, `figures` show all runs.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core import configuration
from ae_lab.core.errors import UserError, suggest
from ae_lab.core.trust import check_trusted
from ae_lab.reporting.statistics import Runs
from ae_lab.tracking import run_files
from ae_lab.tracking.labels import distinguishing_settings, preset_title
from ae_lab.tracking.saved_results import load_results
from ae_lab.tracking.sweeps import FILE, finished_runs, latest_sweeps

FOLDER = configuration.CONF / "experiment"
RESULTS = FOLDER / "results"
PICTURES = FOLDER / "pictures"


@dataclass
class Experiment:
    """An experiment or a sweep, with its finished runs: of an outputs folder, or saved results."""

    name: str
    figures: list[DictConfig]
    run_metrics: DictConfig
    swept: dict[str, str] = field(default_factory=dict)  # settings and their values, as typed
    header: dict[str, str] = field(default_factory=dict)
    runs: Runs = field(default_factory=list)

    @property
    def is_saved(self) -> bool:
        """Whether the runs are saved numbers alone."""
        return bool(self.runs) and self.runs[0].path is None

    def add_run_metrics(self) -> None:
        """Compute the experiment's numbers of each run, those that are not there yet."""
        for name, entry in self.run_metrics.items() if not self.is_saved else ():
            settings = OmegaConf.to_container(entry, resolve=True)
            for run in self.runs:
                run.add_metric(str(name), settings, lambda e=entry, r=run: instantiate(e, run=r))

    def describe(self) -> str:
        """What was run, on what data, with how many seeds."""
        settings = [run.settings for run in self.runs]
        varied = []
        for key in self.swept:
            values = list(dict.fromkeys(str(one.get(key)) for one in settings))
            if key not in ("seed", "data"):
                named = [preset_title(value) if key == "preset" else value for value in values]
                varied.append(f"{key} {', '.join(named)}")
        budget = []
        for key, word in (("epochs", "epochs"), ("batch_size", "images a batch")):
            values = sorted({str(one.get(key)) for one in settings}, key=float)
            budget.append(f"{' or '.join(values)} {word}")
        seeds = len({str(one["seed"]) for one in settings})
        titles = " and ".join(sorted({run.title for run in self.runs}))
        return (
            f"{len(self.runs)} runs on {titles}: {'; '.join([*varied, *budget])}; "
            f"{seeds} seed{'s' if seeds > 1 else ''}."
        )


def experiment_names() -> list[str]:
    """The experiments there are; a file without a sweep is none."""
    return [path.stem for path in sorted(FOLDER.glob("*.yaml")) if "hydra" in OmegaConf.load(path)]


def read_header(file: Path) -> dict[str, str]:
    """The comments that an experiment's file opens with, by the word before their colon."""
    header: dict[str, str] = {}
    key = ""
    for text in file.read_text().splitlines():
        if not text.startswith("#"):
            break
        text = text.lstrip("# ")
        if start := re.match(r"(Claim|Report|Expected|Command)[^:]*: ", text):
            key = start[1]
            text = text[start.end() :] if key != "Expected" else text
        if key:
            header[key] = f"{header.get(key, '')} {text}".strip()
    return header


def load_experiment(name: str, outputs: Path, results: Path = RESULTS) -> Experiment:
    """An experiment by its name, with the runs of its latest sweeps, else its saved results."""
    settings = configuration.compose([f"experiment={name}"], return_hydra_config=True)
    runs = finished_runs(latest_sweeps(outputs / "sweeps" / name)) or load_results(results, name)
    header = read_header(FOLDER / f"{name}.yaml")
    swept = {str(key): str(values) for key, values in settings.hydra.sweeper.params.items()}
    return Experiment(name, list(settings.figures), settings.run_metrics, swept, header, runs)


def load_sweep(folder: Path) -> Experiment:
    """The sweeps of a folder that belong together, with the figures of the newest.

    Raises:
        UserError: these are damaged, or build what is not trusted.
    """
    sweeps = latest_sweeps(folder)
    runs = finished_runs(sweeps)
    file = (sweeps[-1].folder if sweeps else folder) / "multirun.yaml"
    cure = "start the sweep again, which finds its finished runs"
    content = run_files.read_yaml(file, run_files.MULTIRUN, cure)
    settings = OmegaConf.load(file) if content else OmegaConf.create({})
    check_trusted(settings, folder, ("figures", "run_metrics"))
    figures, run_metrics = settings.get("figures") or [], settings.get("run_metrics") or {}
    swept = dict.fromkeys(distinguishing_settings(runs), "")
    return Experiment(folder.name, list(figures), OmegaConf.create(run_metrics), swept, {}, runs)


def find_experiment(name: str | None, outputs: Path) -> Experiment:
    """An experiment by its name, or the sweeps of a folder; without a name, the newest sweep.

    Raises:
        UserError: there is none.
    """
    sweeps = outputs / "sweeps"
    files = [*sweeps.glob(f"*/{FILE}"), *sweeps.glob(f"*/*/{FILE}")]
    if name is None and not files:
        raise UserError(f"no sweep under {outputs}: run one, as in `make demo`")
    if name is None:
        newest = max(files, key=lambda file: file.stat().st_mtime).parent
        folder = newest if newest.parent == sweeps else newest.parent
        name = folder.name
    names = experiment_names()
    if name in names:
        return load_experiment(name, outputs)
    for folder in (Path(name), sweeps / name):
        if any(folder.glob(FILE)) or any(folder.glob(f"*/{FILE}")):
            if folder.name in names and folder.parent.name == "sweeps":
                return load_experiment(folder.name, folder.parents[1])
            return load_sweep(folder)
    known = {*names, *(file.relative_to(sweeps).parts[0] for file in files)}
    raise UserError(f"no experiment and no sweep '{name}' under {outputs}: {suggest(name, known)}")
