"""What all figures look like, and writing them."""

from pathlib import Path
from textwrap import fill

import matplotlib
from matplotlib.figure import Figure

from ae_lab.core.files import replace_atomically

# Okabe & Ito's palette without its yellow, distinct with any colour vision; baselines are black.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.titlesize": "medium",
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.handlelength": 3,  # so that dashes show
    "svg.fonttype": "none",
    "svg.hashsalt": "ae_lab",  # so that the same figure is the same file
}


def line_style(number: int) -> dict[str, str]:
    """Colour and line of the number-th line of a figure: dotted where colours are used again."""
    line = "-" if number < len(COLOURS) else "-."
    return {"color": COLOURS[number % len(COLOURS)], "ls": line}


def wrap_title(title: str) -> str:
    """A title in lines as long as a figure is wide."""
    return fill(title, 56)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg`; returns the two files."""
    files = [stem.with_name(f"{stem.name}{suffix}") for suffix in (".png", ".svg")]
    for file in files:
        with replace_atomically(file) as beside:
            figure.savefig(beside, format=file.suffix[1:])
    return files
