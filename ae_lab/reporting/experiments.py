"""A study: a file in experiments/ that says what is claimed, what is run and what is drawn.

It opens with comments, `# Claim: ...`, `# Report: ...`, `# Expected ...: ...`, `# Command: ...`,
each of one line or more, which captions quote. `hydra.sweeper.params` is its sweep, `measures` what
is measured of each run, `figures` what is drawn of all.
"""

import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core import configuration
from ae_lab.core.errors import UserError, suggest
from ae_lab.tracking import registry as all_runs
from ae_lab.tracking.labels import telling
from ae_lab.tracking.saved_results import Runs, kept

FOLDER = configuration.CONF / "experiments"
RESULTS = FOLDER / "results"


@dataclass
class Study:
    """A study or a sweep, and its finished runs: those of an outputs folder, or what was kept."""

    name: str
    figures: list[DictConfig]
    measures: DictConfig
    swept: list[str] = field(default_factory=list)
    about: dict[str, str] = field(default_factory=dict)
    runs: Runs = field(default_factory=list)

    @property
    def recorded(self) -> bool:
        """Whether the runs are numbers alone."""
        return bool(self.runs) and self.runs[0].path is None

    def measure(self) -> None:
        """Measure each run by what the study asks for, once."""
        for name, how in self.measures.items() if not self.recorded else ():
            way = OmegaConf.to_container(how, resolve=True)
            for run in self.runs:
                run.measure(str(name), way, partial(instantiate, how, run=run))


def names() -> list[str]:
    """The studies there are; a file without a sweep is none."""
    return [path.stem for path in sorted(FOLDER.glob("*.yaml")) if "hydra" in OmegaConf.load(path)]


def header(file: Path) -> dict[str, str]:
    """The comments that a study's file opens with, by the word before their colon."""
    found: dict[str, str] = {}
    last = ""
    for text in file.read_text().splitlines():
        if not text.startswith("#"):
            break
        text = text.lstrip("# ")
        if started := re.match(r"(Claim|Report|Expected|Command)[^:]*: ", text):
            last = started[1]
            text = text[started.end() :] if last != "Expected" else text
        if last:
            found[last] = f"{found.get(last, '')} {text}".strip()
    return found


def study(name: str, outputs: Path, results: Path = RESULTS) -> Study:
    """A study by its name, with the runs of its newest sweeps, else with the numbers kept of it."""
    settings = configuration.compose([f"experiments={name}"], return_hydra_config=True)
    folder = outputs / "sweeps" / name
    runs = all_runs.runs_of(folder, all_runs.outcomes(folder)) or kept(results, name)
    about, swept = header(FOLDER / f"{name}.yaml"), list(settings.hydra.sweeper.params)
    return Study(name, list(settings.figures), settings.measures, swept, about, runs)


def sweep(folder: Path) -> Study:
    """A sweep's folder as a study: it draws what its configuration says."""
    settings = OmegaConf.load(folder / "multirun.yaml")
    runs = all_runs.runs_of(folder, all_runs.outcomes(folder))
    measures = settings.get("measures") or OmegaConf.create({})
    return Study(folder.name, list(settings.figures), measures, telling(runs), {}, runs)


def find(name: str | None, outputs: Path) -> Study:
    """A study or a sweep's folder; without a name, the newest sweep.

    Raises:
        UserError: there is none.
    """
    there = sorted((outputs / "sweeps").glob("*/multirun.yaml"), key=lambda p: p.stat().st_mtime)
    if name is None and not there:
        raise UserError(f"no sweep under {outputs}: run one, as in `make demo`")
    name = there[-1].parent.name if name is None else name
    if name in names():
        return study(name, outputs)
    for folder in (Path(name), outputs / "sweeps" / name):
        if (folder / "multirun.yaml").is_file():
            known = folder.name in names()
            return study(folder.name, folder.parents[1]) if known else sweep(folder)
    known = {*names(), *(path.parent.name for path in there)}
    raise UserError(f"no study and no sweep '{name}' under {outputs}: {suggest(name, known)}")
