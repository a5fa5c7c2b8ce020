"""Training: Lightning's trainer around a module, what it leaves behind, what it minimises with.

`job` is one run from its configuration to its record; `trainer` sets up Lightning; `callbacks` and
`loggers` write checkpoints, history and TensorBoard; `metrics` and `optimizers` are parts that
configurations name; `fast_path` holds all that is there for speed alone.
"""

from ae_lab.training.metrics import (
    MSE,
    PSNR,
    SSIM,
    ActiveUnits,
    CodebookPerplexity,
    CodebookUsage,
    ImageMetric,
)
from ae_lab.training.optimizers import adamw, constant, warmup_cosine

__all__ = [
    "MSE",
    "PSNR",
    "SSIM",
    "ActiveUnits",
    "CodebookPerplexity",
    "CodebookUsage",
    "ImageMetric",
    "adamw",
    "constant",
    "warmup_cosine",
]
