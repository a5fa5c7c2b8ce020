"""Draw a latent figure of a run and write it."""

from pathlib import Path

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import configuration, validation
from ae_lab.core.errors import check_int
from ae_lab.core.files import check_writable, replace_atomically
from ae_lab.core.images import save_png, tile_rows
from ae_lab.inference.latent_figures import FigureRequest
from ae_lab.inference.loaded_run import load_run
from ae_lab.tracking.registry import run_from_path
from ae_lab.tracking.run import Run


def generate(config: DictConfig) -> Path:
    """Write the figure asked for: a PNG, and its images, codes and labels as .npz; returns the
    PNG.

    Raises:
        UserError: no run is named, or it cannot do what is asked.
    """
    validation.check_options(config, "generate")
    validation.check_parts(config)
    run = run_from_path(config.run)
    target = target_file(config, run)
    check_writable(target.parent, "choose another with file=...")
    loaded = load_run(run)
    request = FigureRequest(
        n=check_int("n", config.n),
        columns=check_int("columns", config.columns),
        label=None if config.label is None else loaded.label_number(config.label),
        sampler=config.sampler and instantiate(config.sampler),
        seed=check_int("seed", config.seed, minimum=0),
    )
    figure = instantiate(config.figure)(loaded, request)
    file = save_png(tile_rows(*figure.images), target)
    arrays = file.with_suffix(".npz")
    with replace_atomically(arrays) as beside, beside.open("wb") as stream:
        np.savez(stream, **{name: part.numpy() for name, part in vars(figure).items()})
    print(file, arrays, sep="\n")
    return file


def target_file(config: DictConfig, run: Run) -> Path:
    """Where a figure goes: a file in the run's folder, named by the settings."""
    if config.file:
        return Path(config.file)
    choices = configuration.choices()
    parts = [choices.get(group) for group in ("figure", "sampler")]
    parts = [part for part in parts if part not in (None, "null", "samples")]
    label = [] if config.label is None else [f"label{config.label}"]
    name = "-".join([*parts, f"n{config.n}", *label, f"seed{config.seed}"])
    return run.path / "generated" / f"{name}.png"
