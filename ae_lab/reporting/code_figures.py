"""Kinds of figures that look into a model: what its code's dimensions carry, and what its first
layer looks for. They read the runs themselves, one seed of each.

Each returns a matplotlib Figure, or None where none of the runs can show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from ae_lab.reporting.image_figures import draw_rows, first_seeds, needs_runs
from ae_lab.reporting.style import line_style, wrap_title
from ae_lab.tracking.labels import data_title, labels

if TYPE_CHECKING:
    from torch import Tensor

    from ae_lab.inference.loaded_run import LoadedRun
    from ae_lab.tracking.run import Run


@needs_runs
def kl_per_dimension(runs: list[Run], n: int = 1000, by: list[str] | None = None) -> Figure | None:
    """The KL divergence of each dimension of the code in nats, largest first, the mean over n test
    images: dimensions near 0 have collapsed to the prior."""

    def divergence(loaded: LoadedRun) -> Tensor | None:
        return loaded.predict(n).bottleneck.get("kl")

    spectra = _spectra(runs, by, lambda loaded: _sorted_mean(divergence(loaded)))
    return _draw_spectra(spectra, "KL divergence (nats)", data_title(runs), scale="linear")


@needs_runs
def jacobian_spectrum(runs: list[Run], n: int = 100, by: list[str] | None = None) -> Figure | None:
    """The singular values of the encoder's Jacobian ∂z/∂x, largest first, the mean over n test
    images: how many directions of the image the code follows, and how strongly.

    Source: Rifai et al., ICML 2011.
    """
    import torch

    from ae_lab.models.regularizers import pull_back, unit_vectors

    def singular_values(loaded: LoadedRun) -> Tensor:
        output = loaded.predict(n)
        rows = pull_back(output, loaded.model, unit_vectors(output.code)).detach()  # of J
        return torch.linalg.svdvals(rows.flatten(2).transpose(0, 1))

    spectra = _spectra(runs, by, lambda loaded: _sorted_mean(singular_values(loaded)))
    return _draw_spectra(spectra, "singular value of ∂z/∂x", data_title(runs), scale="log")


@needs_runs
def first_layer_weights(runs: list[Run], n: int = 12, by: list[str] | None = None) -> Figure | None:
    """The n units of the encoder's first layer with the largest weights, each as an image: gray is
    0, each image has a scale of its own."""
    from ae_lab.inference.loaded_run import load_run

    runs, rows = first_seeds(runs), []
    for run, label in zip(runs, labels(runs, ("seed",), by), strict=True):
        loaded = load_run(run)
        weight = next(w for w in loaded.model.encoder.parameters() if w.ndim > 1).detach()
        channels, *size = loaded.data.shape
        if weight.ndim == 2:  # dense; columns beyond the image are those of a label
            weight = weight[:, : channels * size[0] * size[1]].unflatten(1, (channels, *size))
        strongest = weight[weight.flatten(1).norm(dim=1).argsort(descending=True)[:n], :channels]
        rows.append((label, 0.5 + strongest / (2 * strongest.abs().amax((1, 2, 3), keepdim=True))))
    return draw_rows(rows, f"Weights of the first layer, {data_title(runs)}")


def _sorted_mean(values: Tensor | None) -> list[float] | None:
    """The means of values (n, d) over n, largest first."""
    return None if values is None else values.mean(0).sort(descending=True).values.tolist()


def _spectra(runs: list[Run], by: list[str] | None, compute) -> dict[str, list[float]]:
    """What each run's model gives, by the run's label; without those that give None."""
    from ae_lab.inference.loaded_run import load_run

    runs = first_seeds(runs)
    names = labels(runs, ("seed",), by)
    computed = {name: compute(load_run(run)) for name, run in zip(names, runs, strict=True)}
    return {name: values for name, values in computed.items() if values is not None}


def _draw_spectra(spectra: dict[str, list[float]], y: str, data: str, scale: str) -> Figure | None:
    """A line for each run: values over their rank."""
    if not spectra:
        return None
    figure = Figure(figsize=(6.8, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(spectra.items()):
        ranks = range(1, len(values) + 1)
        axes.plot(ranks, values, marker="o", ms=3, label=name, **line_style(number))
    axes.set(xlabel="rank", ylabel=y, yscale=scale)
    axes.set_title(wrap_title(data))
    if len(spectra) > 1:
        figure.legend(loc="outside right upper", fontsize="x-small")
    return figure
