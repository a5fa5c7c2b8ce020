"""Drawing an experiment: its figures and tables as files.

What is drawn is said by `figures:`, one `_target_` each: a function of runs that returns a
matplotlib Figure, an `ae_lab.reporting.Table` or `Page`, or None where the runs have nothing to
show. It may come from outside the package. Its arguments `by`, `column`, `colour` and `factors`
name settings of the runs, `x`, `y`, `columns` and `baseline` their numbers. A function that reads
run folders is marked by `@ae_lab.reporting.needs_runs`: saved results do not draw it. `name` is the
file's name.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib
from hydra.utils import get_method, instantiate
from matplotlib.figure import Figure
from omegaconf import DictConfig, ListConfig, OmegaConf

from ae_lab.core.errors import UserError, suggest
from ae_lab.reporting.experiments import RESULTS, Experiment, experiment_names
from ae_lab.reporting.explorer import Page
from ae_lab.reporting.plots import describe_extremes
from ae_lab.reporting.style import STYLE, save_figure
from ae_lab.reporting.tables import Table
from ae_lab.tracking.saved_results import load_results

SETTINGS = ("by", "column", "colour", "factors")
NUMBERS = ("x", "y", "columns", "baseline")


@dataclass(frozen=True)
class Drawing:
    """A figure or a table as files; the first is the one to show."""

    kind: str
    files: list[Path]
    caption: str = ""
    table: Table | None = None
    page: Page | None = None
    of_images: bool = False


def draw_experiment(experiment: Experiment, target: Path) -> list[Drawing]:
    """Draw each figure of an experiment: plots as PNG and SVG, tables as CSV and LaTeX,
    pages as HTML.

    Raises:
        UserError: no run of it is done, or a figure names what no run has.
    """
    if not experiment.runs:
        name = experiment.name
        command = (
            f": python -m ae_lab.train experiment={name}" if name in experiment_names() else ""
        )
        raise UserError(f"no run of {name} is done: there is nothing to draw. Run it{command}")
    check_figures(experiment)
    experiment.add_run_metrics()
    drawings, described = [], set()
    with matplotlib.rc_context(STYLE):
        for number, entry in enumerate(experiment.figures, start=1):
            stem = target / f"{number}-{entry.get('name', kind_of(entry))}"
            caption = "" if entry.get("y") in described else describe_result(experiment, entry)
            if drawing := draw_figure(experiment, entry, stem, caption):
                drawings.append(drawing)
                described.add(entry.get("y"))
    return drawings


def check_figures(experiment: Experiment) -> None:
    """See that one run at least has the settings and the numbers that figures name.

    Raises:
        UserError: none has.
    """
    settings = {key for run in experiment.runs for key in run.settings}
    rows = [row for run in experiment.runs for row in (run.metrics, *run.history)]
    # Of a run that is not validated, or not tested, there is nothing to draw: no mistake.
    metrics = {name for run in experiment.runs for name in run.metric_directions}
    possible = {f"{stage}/{name}" for stage in ("val", "test") for name in metrics}
    numbers = settings.union(possible, experiment.run_metrics, *rows)
    for entry, key in product(experiment.figures, (*SETTINGS, *NUMBERS)):
        value, known = entry.get(key), settings if key in SETTINGS else numbers
        names = [value] if isinstance(value, str) else value
        for name in names if isinstance(names, list | ListConfig) else ():
            if name not in known:
                raise UserError(
                    f"figures: {kind_of(entry)} has {key}: {name}, and no run has a "
                    f"{'setting' if key in SETTINGS else 'number'} of that name: "
                    f"{suggest(name, known)}"
                )


def kind_of(entry: DictConfig) -> str:
    return str(entry._target_).rpartition(".")[2]


def draw_figure(
    experiment: Experiment, entry: DictConfig, stem: Path, caption: str
) -> Drawing | None:
    """Draw one of an experiment's figures.

    Raises:
        UserError: its function returns something else than a figure, a table, a page or None.
    """
    of_images = getattr(get_method(entry._target_), "needs_runs", False)
    if of_images and experiment.is_saved:
        return None
    arguments = OmegaConf.masked_copy(entry, [key for key in entry if key != "name"])
    figure, kind = instantiate(arguments, experiment.runs), kind_of(entry)
    if figure is None:
        print(f"{stem.name}: nothing to show of these runs")
        return None
    if isinstance(figure, Table):
        return Drawing(kind, figure.save(stem), caption, figure)
    if isinstance(figure, Page):
        return Drawing(kind, figure.save(stem), caption, page=figure)
    if isinstance(figure, Figure):
        return Drawing(kind, save_figure(figure, stem), caption, of_images=of_images)
    raise UserError(
        f"figures: {entry._target_} returned {type(figure).__name__}: a kind of figure returns a "
        "matplotlib Figure, an ae_lab.reporting.Table or Page, or None"
    )


def describe_result(experiment: Experiment, entry: DictConfig) -> str:
    """What came out of a figure's `y`, in words."""
    varied = [key for key in experiment.swept if key != "seed"]
    y = entry.get("y")
    return describe_extremes(experiment.runs, y, varied or None) if isinstance(y, str) else ""


def check_complete(experiment: Experiment) -> None:
    """See that saving an experiment's runs loses none of its saved results.

    Raises:
        UserError: it is a sweep of no experiment, has no runs of its own, or fewer than were saved.
    """
    if experiment.name not in experiment_names():
        raise UserError(f"{experiment.name} is not an experiment: results are saved of those alone")
    here = set() if experiment.is_saved else {sweep_point(experiment, r) for r in experiment.runs}
    saved = {sweep_point(experiment, r) for r in load_results(RESULTS, experiment.name)}
    if not here or not saved <= here:
        raise UserError(
            f"{experiment.name} has {len(here & saved)} of the {len(saved)} runs that are saved, "
            f"and {len(here - saved)} others: run the whole experiment first"
        )


def sweep_point(experiment: Experiment, run) -> tuple[str, ...]:
    """The data and the swept settings of a run."""
    return (run.title, *(str(run.settings.get(key)) for key in experiment.swept))
