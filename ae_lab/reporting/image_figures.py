"""Kinds of figures made of images: they need the runs themselves, one seed of each.

Each returns a matplotlib Figure, or None where none of the runs can show it.
"""

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.inference.samplers import by_name
from ae_lab.reporting.plots import as_labels, wrapped
from ae_lab.tracking.labels import alike, labels
from ae_lab.tracking.registry import best_first, data_title
from ae_lab.tracking.run import Run


def one_each(runs: list[Run]) -> list[Run]:
    """The first of the runs that differ in their seed alone."""
    return [group[0] for group in alike(runs, "seed")]


def in_rows(rows: list[tuple[str, Tensor]], title: str) -> Figure:
    """Named rows of images (n, C, H, W)."""
    n = max(len(images) for _, images in rows)
    figure = Figure(figsize=(0.55 * n + 1.8, 0.62 * len(rows) + 0.4))
    panels = figure.subplots(len(rows), n, squeeze=False)
    for axes, (name, images) in zip(panels, rows, strict=True):
        for place, image in zip(axes, images, strict=False):
            place.imshow(image.permute(1, 2, 0).clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        for place in axes:
            place.set(xticks=[], yticks=[])
            place.spines[:].set_visible(False)
        axes[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize="x-small")
    figure.suptitle(wrapped(title), fontsize="medium")
    return figure


def reconstructions(
    runs: list[Run], n: int = 10, most: int = 12, by: list[str] | None = None
) -> Figure:
    """Test images over each run's reconstructions of them, at most `most` runs, best first."""
    from ae_lab.inference.loaded_run import load_run

    runs = best_first(one_each(runs))[:most]
    inputs, rows = {}, []
    for run, label in zip(runs, labels(runs, ("seed",), by), strict=True):
        out = load_run(run).show(n)
        shape = tuple(out.clean.shape)
        inputs[("original", run.title, shape)] = out.clean
        if run.settings["noise"] != "none":
            noise = f"seen, {run.settings['noise']}"
            inputs[(noise, run.title, shape, str(run.config.noise))] = out.seen
        rows.append((f"{label}\nMSE {run.metrics['test/mse']:.4f}", out.reconstruction))
    first = [(key[0], images) for key, images in inputs.items()]
    return in_rows(first + rows, f"Test images of {data_title(runs)}")


def random_images(
    runs: list[Run], n: int = 10, sampler: str | None = None, by: list[str] | None = None
) -> Figure | None:
    """Random codes through each run's decoder, each label in turn where the run is conditional."""
    from ae_lab.inference.loaded_run import load_run

    runs, rows = one_each(runs), []
    for run, label in zip(runs, labels(runs, ("seed",), by), strict=True):
        loaded = load_run(run)
        try:
            rows.append((label, loaded.decode(*loaded.draw(n, None, by_name(sampler), 0))))
        except UserError:  # it cannot generate in this way: others may
            continue
    return in_rows(rows, f"Random codes decoded, {data_title(runs)}") if rows else None


def codes(runs: list[Run], n: int = 2000, by: list[str] | None = None) -> Figure | None:
    """The codes of test images in the plane, each drawn as its label, of runs with latent=2."""
    from ae_lab.inference.loaded_run import load_run

    flat = [run for run in one_each(runs) if run.settings["latent"] == 2]
    if not flat:
        return None
    across = min(3, len(flat))
    figure = Figure(figsize=(3.2 * across, 3.2 * -(-len(flat) // across)))
    panels = figure.subplots(-(-len(flat) // across), across, squeeze=False).flatten()
    for axes, run, label in zip(panels, flat, labels(flat, ("seed",), by), strict=False):
        loaded = load_run(run)
        split = loaded.data.split("test").first(n)
        points = loaded.codes(split).flatten(1).numpy()
        as_labels(axes, points, split.labels.argmax(1).numpy() if split.single else None)
        low, high = np.quantile(points, [0.01, 0.99], axis=0)
        axes.set(title=label, xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set(xlabel="z₁", ylabel="z₂")
    for axes in panels[len(flat) :]:
        axes.set_visible(False)
    return figure
