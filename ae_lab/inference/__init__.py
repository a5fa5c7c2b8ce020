"""A finished run in use: load it, encode, decode, sample codes, draw latent figures, restore
photographs, export it.

`loaded_run` is a run as a model again; `samplers`, `flow` and `autoregressive` are where
random codes come from; `latent_figures` are what the command `generate` draws, `generation` writes
them; `restoration` is the command `restore`, `restorer` takes a photograph through a model,
`tiling` an image of any size, `self_ensemble` one turned and mirrored; `photo_files` reads and
writes a person's files. `api` is `ae_lab.load` and `ae_lab.train`, `model` what they return,
`inputs` what people give to it, `likelihood` a bound on log p(x). `export` is the command of that
name, and what ends in `_format` writes a format: `exported_folder` is the layout of the first,
`model_card` its card; `graphs` are what the others hold, `explorer.html` is a page; `hub` is where
folders are shared.
"""

from ae_lab.inference.autoregressive import Autoregressive
from ae_lab.inference.flow import Flow
from ae_lab.inference.html_format import HtmlFormat
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
from ae_lab.inference.onnx_format import OnnxFormat
from ae_lab.inference.safetensors_format import SafetensorsFormat
from ae_lab.inference.samplers import Mixture, Normal, Prior, Sampler, StandardNormal
from ae_lab.inference.torch_export_format import TorchExportFormat

__all__ = [
    "Autoregressive",
    "FigureRequest",
    "Flow",
    "HtmlFormat",
    "LatentFigure",
    "LoadedRun",
    "Mixture",
    "Normal",
    "NotApplicable",
    "OnnxFormat",
    "Prior",
    "SafetensorsFormat",
    "Sampler",
    "StandardNormal",
    "TorchExportFormat",
    "draw_interpolation",
    "draw_label_swap",
    "draw_latent_grid",
    "draw_samples",
    "draw_traversal",
    "load_run",
]
