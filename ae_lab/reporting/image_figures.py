"""Kinds of figures that show images: they read the runs themselves, one seed of each.

Each returns a matplotlib Figure, or None where none of the runs can show it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from ae_lab.core.errors import UserError
from ae_lab.reporting.style import wrap_title
from ae_lab.tracking.labels import data_title, group_by_all_but, labels
from ae_lab.tracking.registry import sort_runs

if TYPE_CHECKING:
    from torch import Tensor

    from ae_lab.tracking.run import Run


def needs_runs(figure: Callable) -> Callable:
    """Mark a kind of figure that reads run folders: saved results alone do not draw it."""
    figure.needs_runs = True
    return figure


def first_seeds(runs: list[Run]) -> list[Run]:
    """The first of the runs that differ in their seed alone."""
    return [group[0] for group in group_by_all_but("seed", runs)]


def draw_rows(rows: list[tuple[str, Tensor]], title: str) -> Figure:
    """Named rows of images (n, C, H, W) in [0, 1]."""
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
    figure.suptitle(wrap_title(title), fontsize="medium")
    return figure


@needs_runs
def reconstructions(
    runs: list[Run], n: int = 10, max_runs: int = 12, by: list[str] | None = None
) -> Figure:
    """Test images over each run's reconstructions of them, the `max_runs` runs of lowest MSE."""
    from ae_lab.inference.loaded_run import load_run

    runs = sort_runs(first_seeds(runs))[:max_runs]
    inputs, rows = {}, []
    for run, label in zip(runs, labels(runs, ("seed",), by), strict=True):
        loaded = load_run(run)
        batch = loaded.data.eval_batch("test", n)
        inputs[("original", batch.clean.numpy().tobytes())] = batch.clean
        if run.settings["noise"] != "none":
            noise = f"corrupted, {run.settings['noise']}"
            inputs[(noise, batch.corrupted.numpy().tobytes())] = batch.corrupted
        rows.append((f"{label}\nMSE {run.metrics['test/mse']:.4f}", loaded.reconstruct(batch)))
    originals = [(key[0], images) for key, images in inputs.items()]
    return draw_rows(originals + rows, f"Test images of {data_title(runs)}")


@needs_runs
def random_images(
    runs: list[Run], n: int = 10, sampler: str | None = None, by: list[str] | None = None
) -> Figure | None:
    """Random codes through each run's decoder, each label in turn where the run is conditional."""
    from ae_lab.inference.loaded_run import load_run
    from ae_lab.inference.samplers import sampler_by_name

    runs, rows = first_seeds(runs), []
    for run, label in zip(runs, labels(runs, ("seed",), by), strict=True):
        loaded = load_run(run)
        try:
            codes = loaded.sample_codes(n, None, sampler_by_name(sampler), 0)
            rows.append((label, loaded.decode(*codes)))
        except UserError:  # it cannot generate in this way: others may
            continue
    return draw_rows(rows, f"Random codes decoded, {data_title(runs)}") if rows else None


@needs_runs
def codes(runs: list[Run], n: int = 2000, by: list[str] | None = None) -> Figure | None:
    """The codes of test images in the plane, each drawn as its label, of runs with latent=2."""
    from ae_lab.evaluation.latents import scatter_labels
    from ae_lab.inference.loaded_run import load_run

    flat = [run for run in first_seeds(runs) if run.settings["latent"] == 2]
    if not flat:
        return None
    across = min(3, len(flat))
    figure = Figure(figsize=(3.2 * across, 3.2 * -(-len(flat) // across)))
    panels = figure.subplots(-(-len(flat) // across), across, squeeze=False).flatten()
    for axes, run, label in zip(panels, flat, labels(flat, ("seed",), by), strict=False):
        loaded = load_run(run)
        split = loaded.data.split("test").first(n)
        points = loaded.encode_split(split).flatten(1).numpy()
        classes = split.labels.argmax(1).numpy() if split.has_single_labels else None
        scatter_labels(axes, points, classes)
        low, high = np.quantile(points, [0.01, 0.99], axis=0)
        axes.set(title=label, xlim=(low[0], high[0]), ylim=(low[1], high[1]))
        axes.set(xlabel="z₁", ylabel="z₂")
    for axes in panels[len(flat) :]:
        axes.set_visible(False)
    return figure
