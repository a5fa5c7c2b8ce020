"""Training: Lightning's trainer around a module, what it leaves behind, what it minimises with.

`job` is one run from its configuration to its record; `trainer` sets up Lightning; `callbacks` and
`loggers` write checkpoints, history and TensorBoard, `checkpoint_io` and `image_logger` help them;
`metrics` and `optimizers` are parts that configurations name; `continuation` is `extend` and
`init_from`; `dry_run` tries a step without data; `pruning` ends poor trials; `from_python` is
`ae_lab.train`; `fast_path` holds all that is there for speed alone.
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
