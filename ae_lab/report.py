"""Figures and tables of a study: `python -m ae_lab.report [study or sweep folder]`.

What is drawn is said by `figures:`, one `_target_` each: a function of runs that returns a
matplotlib Figure, a table (`ae_lab.reporting.tables.Sheet`), or None where the runs have nothing to show. Its
arguments `by`, `column`, `colour` and `factors` name settings of the runs, `x`, `y`, `columns` and
`baseline` their numbers.
`--all` makes the page of all studies, `--keep` keeps a study's numbers with the project.
"""

import argparse
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core import command
from ae_lab.core.errors import UserError, suggest
from ae_lab.reporting import image_figures as grids
from ae_lab.reporting.experiments import FOLDER, RESULTS, Study, find, names
from ae_lab.reporting.plots import STYLE, finding, save
from ae_lab.reporting.tables import Sheet
from ae_lab.tracking.registry import data_title
from ae_lab.tracking.saved_results import keep, kept
from ae_lab.train import quiet

SETTINGS = ("by", "column", "colour", "factors")
NUMBERS = ("x", "y", "columns", "baseline")


@dataclass(frozen=True)
class Drawn:
    """A figure or a table as files; the first is the one to show."""

    files: list[Path]
    caption: str
    sheet: Sheet | None = None
    of_images: bool = False


def draw(study: Study, target: Path) -> list[Drawn]:
    """Make each figure of a study: plots as PNG and SVG, tables as CSV and LaTeX.

    Raises:
        UserError: no run of it is done, or a figure asks for what no run has.
    """
    if not study.runs:
        how = f": python -m ae_lab.train experiments={study.name}" if study.name in names() else ""
        raise UserError(f"no run of {study.name} is done: there is nothing to draw. Run it{how}")
    check_figures(study)
    study.measure()
    drawn = []
    with matplotlib.rc_context(STYLE):
        for number, entry in enumerate(study.figures, start=1):
            stem = target / f"{number}-{entry.get('name', kind(entry))}"
            if files := made(study, entry, stem):
                drawn.append(files)
    return drawn


def check_figures(study: Study) -> None:
    """See that the settings and the numbers that figures name are known of one run at least.

    Raises:
        UserError: one is not.
    """
    settings = {key for run in study.runs for key in run.settings}
    rows = [row for run in study.runs for row in (run.metrics, *run.history[:1])]
    numbers = settings.union(study.measures, *rows)
    for entry, key in product(study.figures, (*SETTINGS, *NUMBERS)):
        asked, known = entry.get(key) or (), settings if key in SETTINGS else numbers
        for name in [asked] if isinstance(asked, str) else asked:
            if name not in known:
                raise UserError(
                    f"figures: {kind(entry)} has {key}: {name}, and no run has a "
                    f"{'setting' if key in SETTINGS else 'number'} of that name: "
                    f"{suggest(name, known)}"
                )


def kind(entry: DictConfig) -> str:
    return str(entry._target_).rpartition(".")[2]


def made(study: Study, entry: DictConfig, stem: Path) -> Drawn | None:
    """One of a study's figures; images need the runs themselves, numbers alone do not draw them."""
    of_images = str(entry._target_).startswith(grids.__name__)
    if of_images and study.recorded:
        return None
    how = OmegaConf.masked_copy(entry, [key for key in entry if key != "name"])
    found = instantiate(how, study.runs)
    words = caption(study, entry)
    if isinstance(found, Sheet):
        return Drawn(found.save(stem), words, found)
    if found is None:
        print(f"{stem.name}: nothing to show of these runs")
        return None
    return Drawn(save(found, stem), words, of_images=of_images)


def caption(study: Study, entry: DictConfig) -> str:
    """What was run, on what data, with how many seeds; what the report said; what came out."""
    runs = study.runs
    settings = [run.settings for run in runs]
    seeds = len({str(one["seed"]) for one in settings})
    told, varied = [], [key for key in study.swept if key != "seed"]
    for key in varied:
        values = list(dict.fromkeys(str(one.get(key)) for one in settings))
        told.append(f"{key} {', '.join(values)}")
    budget = [
        f"{'/'.join(sorted({str(one.get(key)) for one in settings}))} {word}"
        for key, word in (("epochs", "epochs"), ("batch_size", "images a batch"))
    ]
    lines = [
        f"{len(runs)} runs on {data_title(runs)}: {'; '.join(told) or 'one kind'}; "
        f"{', '.join(budget)}, {seeds} seed{'s' if seeds > 1 else ''}."
    ]
    if said := study.about.get("Report"):
        lines.append(f"The report: {said}")
    if (y := entry.get("y")) and (came := finding(runs, y, varied or None)):
        lines.append(f"Here: {came}.")
    return " ".join(lines)


def check_worth_keeping(study: Study) -> None:
    """See that of the numbers kept with the project none is lost.

    Raises:
        UserError: the runs are no study's, are those kept, or are not all of those.
    """
    here = set() if study.recorded else {run.name for run in study.runs}
    before = {run.name for run in kept(RESULTS, study.name)}
    if study.name not in names() or not here or not before <= here:
        raise UserError(
            f"{study.name} has {len(here & before)} of the {len(before)} runs that are kept, and "
            f"{len(here - before)} others: run the whole study first, or delete what is kept"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ae_lab.report", description="Draw the figures of a study or a sweep."
    )
    parser.add_argument("study", nargs="?", help="a study or a sweep; by default the newest sweep")
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER")
    parser.add_argument("--all", action="store_true", help="the page of all studies and claims")
    parser.add_argument("--keep", action="store_true", help=f"keep the numbers in {FOLDER.name}")
    asked = parser.parse_args()
    if asked.all and (asked.study or asked.keep):
        parser.error("--all is the page of all studies: leave out the study and --keep")
    quiet()
    outputs = Path(asked.outputs)
    try:
        if asked.all:
            from ae_lab.reporting.page import page

            print(f"The report: {page(outputs)}")
            return
        study = find(asked.study, outputs)
        if asked.keep:
            check_worth_keeping(study)
        drawn = draw(study, outputs / "figures" / study.name)
        print("Figures, as PNG and SVG, tables as CSV and LaTeX:")
        for one in drawn:
            print(f"  {one.files[0]}")
        if study.recorded:
            print(
                "No run of it is under this folder: drawn from the numbers kept with the project."
            )
        if asked.keep:
            print(*keep(study.runs, RESULTS.resolve(), study.name), sep="\n")
    except Exception as error:
        sys.exit(command.print_error(error))
    print(f"Training curves, images, codes: tensorboard --logdir {outputs}")


if __name__ == "__main__":
    main()
