"""The page of all studies and claims: one self-contained HTML file beside its figures."""

import base64
import time
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from ae_lab.core.files import write_text
from ae_lab.reporting import claims
from ae_lab.reporting import experiments as study
from ae_lab.reporting.drawing import Drawn, draw

TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def embedded(file: Path) -> str:
    """A file as an address that holds its content."""
    content = base64.b64encode(file.read_bytes()).decode()
    return f"data:{TYPES[file.suffix]};base64,{content}"


def shown(one: Drawn) -> dict:
    """What the page shows of a figure or a table."""
    if one.sheet:
        return {"sheet": one.sheet, "caption": one.caption, "files": one.files}
    # A plot is sharp at any size, and a picture of images is smaller as one.
    file = one.files[0] if one.of_images else one.files[1]
    about = {"photo": one.of_images, "caption": one.caption, "files": one.files}
    return {"image": embedded(file), **about}


def section(one: study.Study, target: Path) -> dict:
    return {
        "name": one.name,
        "about": one.about,
        "recorded": one.recorded,
        "figures": [shown(drawn) for drawn in draw(one, target / one.name)] if one.runs else [],
    }


def page(outputs: Path) -> Path:
    """Draw every study, audit every claim, and write the page; returns its file.

    A study that was not run under `outputs` is drawn from the numbers kept with the project, and
    if there are none, is said to be missing.
    """
    target = outputs / "report"
    found = [study.study(name, outputs) for name in study.names()]
    sections = [section(one, target) for one in found]
    here = claims.audit({one.name: one.runs for one in found})
    kept = claims.audit(claims.evidence(None))
    claims.sheet(here, "Claims").save(target / "claims")
    own = any(one.runs and not one.recorded for one in found)
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    html = template.get_template("page.html").render(
        sections=sections,
        claims=list(zip(here, kept, strict=True)),
        own=own,
        date=time.strftime("%Y-%m-%d"),
        classes={claims.HOLDS: "yes", claims.NOT: "no"},
    )
    write_text(target / "index.html", html)
    return target / "index.html"
