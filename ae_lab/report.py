"""Figures of a sweep: `python -m ae_lab.report [study or sweep folder]`.

Which figures is said by the sweep's configuration, `figures:`, one `_target_` each. A figure is a
function of runs that returns a matplotlib Figure, or None where the runs have nothing to show.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
from hydra.utils import instantiate
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from omegaconf import OmegaConf

from ae_lab import config
from ae_lab import runs as all_runs
from ae_lab.errors import UserError, nearest
from ae_lab.labels import alike, labels
from ae_lab.pca import pca_mse
from ae_lab.run import Run
from ae_lab.runs import data_title

LABELS = {
    "latent": "latent dimensions",
    "epoch": "epoch",
    "test/mse": "test MSE per pixel",
    "val/mse": "validation MSE per pixel",
    "test/psnr": "test PSNR (dB)",
    "test/ssim": "test SSIM",
}
# Okabe & Ito's palette, told apart with any colour vision, less its yellow.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "axes.titlesize": "medium",
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
}


def scale_y(axes, metric: str) -> None:
    """A logarithmic axis with plain numbers for errors; the rest is linear."""
    if metric.endswith("mse"):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axes.yaxis.set_minor_locator(NullLocator())


def curve(runs: list[Run], x: str, y: str, baseline: str | None = None) -> Figure | None:
    """A metric against a setting, a line for each combination of the other settings.

    `baseline="pca"` adds PCA with as many components as the code has dimensions.
    """
    if len({run.settings[x] for run in runs}) < 2:
        return None
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, float]]] = {}
    for run, label in zip(runs, labels(runs, leave_out=(x, "preset")), strict=True):
        lines.setdefault(label, []).append((run.settings[x], run.metrics[y]))
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=label)
    if baseline == "pca":
        found = ((run.settings[x], pca_mse(run)) for run in runs)
        points = sorted({at: value for at, value in found if value is not None}.items())
        if points:
            axes.plot(*zip(*points, strict=True), "k--", marker="s", markersize=3, label="PCA")
    positions = sorted({run.settings[x] for run in runs})
    axes.set_xscale("log")
    axes.set_xticks(positions, [f"{p:g}" for p in positions])
    axes.minorticks_off()
    scale_y(axes, y)
    axes.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y), title=data_title(runs))
    axes.legend(fontsize="small" if len(lines) < 8 else "xx-small")
    return figure


def history(runs: list[Run], y: str) -> Figure | None:
    """A metric over the epochs, a line a run."""
    figure = Figure(figsize=(5.2, 3.6))
    axes = figure.subplots()
    for run, label in zip(runs, labels(runs), strict=True):
        rows = [row for row in run.history if y in row]
        axes.plot([row["epoch"] + 1 for row in rows], [row[y] for row in rows], label=label)
    scale_y(axes, y)
    axes.set(xlabel=LABELS["epoch"], ylabel=LABELS.get(y, y), title=data_title(runs))
    axes.legend(fontsize="small" if len(runs) < 8 else "xx-small")
    return figure


def dots(runs: list[Run], y: str) -> Figure:
    """A metric of runs that differ in more than a number: a dot a run, a bar where their mean is.

    Runs that differ in their seed alone share a line, which also says how many values reach the
    decoder.
    """
    groups = alike(runs, "seed")
    names = labels([group[0] for group in groups])
    figure = Figure(figsize=(6.0, 0.32 * len(groups) + 1.0))
    axes = figure.subplots()
    for place, group in enumerate(groups):
        values = [run.metrics[y] for run in group]
        axes.plot(values, [place] * len(values), "o", color=COLOURS[0], markersize=4, alpha=0.6)
        axes.plot(sum(values) / len(values), place, "|", color=COLOURS[1], markersize=12)
    passed = [f"{group[0].metrics.get('passed', float('nan')):,.0f}" for group in groups]
    rows = [f"{name}  ({count})" for name, count in zip(names, passed, strict=True)]
    axes.set_yticks(range(len(groups)), rows)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel=LABELS.get(y, y), title=f"{data_title(runs)}; (values to the decoder)")
    return figure


def reconstructions(runs: list[Run], n: int = 10, most: int = 12) -> Figure:
    """Test images over each run's reconstructions of them, at most `most` runs, best first."""
    from ae_lab.restore import restore

    runs = all_runs.best_first(runs)[:most]
    inputs, rows = {}, []
    for run, label in zip(runs, labels(runs), strict=True):
        out = restore(run).show(n)
        inputs["original"] = out.clean
        if run.settings["noise"] != "none":
            inputs.setdefault(("seen", str(run.config.noise)), out.seen)
        rows.append((f"{label}\nMSE {run.metrics['test/mse']:.4f}", out.reconstruction))
    named = [(key if key == "original" else "seen", images) for key, images in inputs.items()]
    rows = [*named, *rows]
    figure = Figure(figsize=(0.55 * n + 1.8, 0.62 * len(rows) + 0.4))
    axes = figure.subplots(len(rows), n, squeeze=False)
    for line, (name, images) in zip(axes, rows, strict=True):
        for place, image in zip(line, images, strict=True):
            place.imshow(image.permute(1, 2, 0).clamp(0, 1), cmap="gray", vmin=0, vmax=1)
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize="x-small")
    figure.suptitle(f"Test images of {data_title(runs)}", fontsize="medium")
    return figure


def sweep_folder(outputs: Path, name: str | None) -> Path:
    """The folder of a study or of a sweep; without a name, that of the newest sweep.

    Raises:
        UserError: there is none.
    """
    there = sorted((outputs / "sweeps").glob("*/multirun.yaml"), key=lambda p: p.stat().st_mtime)
    if name is None:
        if not there:
            raise UserError(f"no sweep under {outputs}: run one, as in `make demo`")
        return there[-1].parent
    for folder in (Path(name), outputs / "sweeps" / name):
        if (folder / "multirun.yaml").is_file():
            return folder
    names = [path.parent.name for path in there]
    raise UserError(f"no sweep '{name}' under {outputs}: {nearest(name, names or ['(none yet)'])}")


def draw(folder: Path, target: Path) -> list[Path]:
    """Draw each figure of a sweep as PNG and SVG; returns the PNGs.

    Raises:
        UserError: no run of the sweep is done.
    """
    runs = all_runs.runs_of(all_runs.outcomes(folder))
    if not runs:
        raise UserError(f"no run of {folder} is done: there is nothing to draw")
    files = []
    with matplotlib.rc_context(STYLE):
        for number, entry in enumerate(OmegaConf.load(folder / "multirun.yaml").figures, start=1):
            figure = instantiate(entry, runs=runs)
            if figure is not None:
                kind = str(entry._target_).rpartition(".")[2]
                file = target / f"{number}-{entry.get('name', kind)}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(file)
                figure.savefig(file.with_suffix(".svg"))
                files.append(file)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ae_lab.report", description="Draw the figures of a study or a sweep."
    )
    parser.add_argument(
        "sweep", nargs="?", help="a study or a sweep's folder; by default the newest"
    )
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER")
    asked = parser.parse_args()
    outputs = Path(asked.outputs)
    try:
        folder = sweep_folder(outputs, asked.sweep)
        files = draw(folder, outputs / "figures" / folder.name)
    except Exception as error:
        if config.traceback_wanted():
            raise
        sys.exit(config.say(error))
    print("Figures, as PNG and SVG:")
    for file in files:
        print(f"  {file}")
    print(f"Training curves, images, codes: tensorboard --logdir {outputs}")


if __name__ == "__main__":
    main()
