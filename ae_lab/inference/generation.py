"""Codes through a run's decoder: random ones, between images, along dimensions.

python -m ae_lab.generate run=outputs/runs/... label=7 n=64 sampler=gmm
python -m ae_lab.generate run=outputs/runs/... picture=interpolation
"""

from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from ae_lab.core import configuration
from ae_lab.core.errors import check_int
from ae_lab.core.images import tile_rows
from ae_lab.inference.latent_figures import Request
from ae_lab.inference.loaded_run import load_run, run_from_path
from ae_lab.tracking.run import Run

ENLARGED = 3


def generate(config: DictConfig) -> Path:
    """Draw the picture asked for: a PNG, and beside it its images, codes and labels as .npz.

    Raises:
        UserError: no run named, or one that cannot do what is asked.
    """
    request = Request(
        n=check_int("n", config.n),
        columns=check_int("columns", config.columns),
        label=config.label,
        sampler=config.sampler and instantiate(config.sampler),
        seed=check_int("seed", config.seed, minimum=0),
    )
    loaded = load_run(run_from_path(config.run))
    picture = instantiate(config.picture)(loaded, request)
    file = target(config, loaded.run)
    save(tile_rows(*picture.images), file)
    beside = file.with_suffix(".npz")
    np.savez(beside, **{name: part.numpy() for name, part in vars(picture).items()})
    print(beside)
    return file


def target(config: DictConfig, run: Run) -> Path:
    """Where the picture goes: named after what makes it this one."""
    made = configuration.choices()
    choices = [made.get("picture"), made.get("sampler")]
    words = [word for word in choices if word not in (None, "null", "samples")]
    words += [f"n{config.n}", "" if config.label is None else f"label{config.label}"]
    name = "-".join([*filter(None, words), f"seed{config.seed}"])
    return Path(config.file or run.path / "generated" / f"{name}.png")


def save(picture, file: Path) -> Path:
    """Write an image (C, H, W) in [0, 1] as PNG, enlarged so that its pixels can be seen."""
    values = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    image = Image.fromarray(values.squeeze())
    image = image.resize([side * ENLARGED for side in image.size], Image.Resampling.NEAREST)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    print(file)
    return file
