"""The page of all experiments and claims: one self-contained HTML file beside its figures."""

import base64
import time
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from ae_lab.core.files import write_text
from ae_lab.reporting.claims import FAILS, HOLDS, audit, collect_runs, verdict_table
from ae_lab.reporting.drawing import Drawing, draw_experiment
from ae_lab.reporting.experiments import Experiment, experiment_names, load_experiment
from ae_lab.reporting.forest_plot import save_forest
from ae_lab.reporting.pictures import picture_file, read_caption

TYPES = {".png": "image/png", ".webp": "image/webp", ".svg": "image/svg+xml"}
CLASSES = {HOLDS: "yes", FAILS: "no"}


def write_page(outputs: Path) -> Path:
    """Draw every experiment, audit every claim, and write the page; returns its file.

    An experiment that was not run under `outputs` is drawn from its saved results, with its saved
    picture; one that has none is listed as not run.
    """
    target = outputs / "report"
    experiments = [load_experiment(name, outputs) for name in experiment_names()]
    sections = [describe_section(one, target / one.name) for one in experiments]
    verdicts = audit({one.name: one.runs for one in experiments})
    saved_verdicts = audit(collect_runs(None))
    verdict_table(verdicts).save(target / "claims")
    forest = save_forest(verdicts, target / "claims.svg")
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    html = template.get_template("page.html").render(
        sections=sections,
        claims=list(zip(verdicts, saved_verdicts, strict=True)),
        forest=embed(forest),
        has_runs=any(one.runs and not one.is_saved for one in experiments),
        date=time.strftime("%Y-%m-%d"),
        classes=CLASSES,
    )
    write_text(target / "index.html", html)
    return target / "index.html"


def describe_section(experiment: Experiment, target: Path) -> dict:
    """What the page shows of an experiment."""
    drawings = draw_experiment(experiment, target) if experiment.runs else []
    section = {
        "name": experiment.name,
        "header": experiment.header,
        "is_saved": experiment.is_saved,
        "runs": experiment.describe() if experiment.runs else "",
        "figures": [describe_drawing(drawing) for drawing in drawings],
    }
    file = picture_file(experiment.name)
    if not any(drawing.of_images for drawing in drawings) and file.is_file():
        section |= {"picture": embed(file), "picture_caption": read_caption(file)}
    return section


def describe_drawing(drawing: Drawing) -> dict:
    """What the page shows of a figure or a table."""
    name = drawing.kind.replace("_", " ")
    entry = {"name": name, "caption": drawing.caption, "files": drawing.files}
    if drawing.table:
        return entry | {"table": drawing.table}
    if drawing.page:
        return entry | {"page": drawing.page.html}
    # Plots are sharp at any size as SVG; images take less room as PNG.
    file = drawing.files[0] if drawing.of_images else drawing.files[1]
    return entry | {"image": embed(file), "of_images": drawing.of_images}


def embed(file: Path) -> str:
    """A file as an address that holds its content."""
    content = base64.b64encode(file.read_bytes()).decode()
    return f"data:{TYPES[file.suffix]};base64,{content}"
