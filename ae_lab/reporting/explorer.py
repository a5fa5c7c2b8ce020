"""The kind of figure that is a page to explore codes in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ae_lab.core.files import write_text
from ae_lab.reporting.image_figures import first_seeds, needs_runs
from ae_lab.tracking.registry import sort_runs

if TYPE_CHECKING:
    from ae_lab.tracking.run import Run


@dataclass(frozen=True)
class Page:
    """A figure that is HTML of its own."""

    html: str

    def save(self, stem: Path) -> list[Path]:
        file = stem.with_suffix(".html")
        write_text(file, self.html)
        return [file]


@needs_runs
def explorer(runs: list[Run]) -> Page | None:
    """The plane of codes of one run, and the image of each of its places: of the run of lowest MSE
    whose code has two dimensions, else of the lowest that decodes vectors."""
    from ae_lab.inference import HtmlFormat, NotApplicable, load_run

    candidates = sort_runs(first_seeds(runs))
    for run in sorted(candidates, key=lambda run: str(run.settings.get("latent")) != "2"):
        try:
            return Page(HtmlFormat().render(load_run(run)))
        except NotApplicable:
            continue
    return None
