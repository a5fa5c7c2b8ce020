"""A finished run in use: load it, encode, decode, sample codes, draw latent figures, restore
photographs.

`loaded_run` is a run as a model again; `samplers`, `flow` and `autoregressive` are where
random codes come from; `latent_figures` are what the command `generate` draws, `generation` writes
them; `restoration` is the command `restore`, `tiling` puts images of any size through a network,
`photo_files` reads and writes a person's files.
"""

from ae_lab.inference.autoregressive import Autoregressive
from ae_lab.inference.flow import Flow
from ae_lab.inference.latent_figures import (
    FigureRequest,
    LatentFigure,
    draw_interpolation,
    draw_label_swap,
    draw_latent_grid,
    draw_samples,
    draw_traversal,
)
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable, load_run
from ae_lab.inference.samplers import Mixture, Normal, Prior, Sampler

__all__ = [
    "Autoregressive",
    "FigureRequest",
    "Flow",
    "LatentFigure",
    "LoadedRun",
    "Mixture",
    "Normal",
    "NotApplicable",
    "Prior",
    "Sampler",
    "draw_interpolation",
    "draw_label_swap",
    "draw_latent_grid",
    "draw_samples",
    "draw_traversal",
    "load_run",
]
