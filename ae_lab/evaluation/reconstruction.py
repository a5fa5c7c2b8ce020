"""A finished run on any data and noise: `python -m ae_lab.evaluate run=<folder> noise=speckle`.

Prints its test metrics, writes them image by image, and draws its best, median and worst images.
Data and noise are the run's own where they are not given.
"""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from torch import Tensor

from ae_lab.core.console import print_table
from ae_lab.core.files import write_csv
from ae_lab.core.images import tile_rows
from ae_lab.data.images import Batch
from ae_lab.data.module import ImageData
from ae_lab.inference.loaded_run import LoadedRun, load_run, run_from_path
from ae_lab.tracking.identity import digest, flat
from ae_lab.training.metrics import image_metrics

SHOWN = 4  # images of each kind in the picture
UNITS = {"mse": "{:.5f}", "psnr": "{:.2f}", "ssim": "{:.4f}"}


def evaluate(config: DictConfig) -> dict[str, float]:
    """Mean metrics of a run's reconstructions; everything else goes to `evaluated/` in its folder.

    Raises:
        UserError: no run named, or data that its model cannot take.
    """
    loaded = load_run(run_from_path(config.run), data=config.data, noise=config.noise)
    batch = loaded.data.evaluated(config.split)
    reconstruction = loaded.reconstruct(batch)
    seen = image_metrics(batch.seen, batch.clean)
    scores = image_metrics(reconstruction, batch.clean)
    show(
        f"{config.split} split of {loaded.data.images.title}",
        {"seen": seen, loaded.run.name: scores},
    )
    stem = target(loaded, config.split)
    write_csv(stem.with_name(f"{stem.name}.csv"), rows(seen, scores))
    save(extremes(batch, reconstruction, scores["psnr"]), stem.with_name(f"{stem.name}.png"))
    print(stem.with_name(f"{stem.name}.csv"))
    return {name: float(values.mean()) for name, values in scores.items()}


def rows(seen: dict[str, Tensor], scores: dict[str, Tensor]) -> list[dict[str, float]]:
    """One row an image: its place in the split, its metrics before and after."""
    columns = {f"seen/{name}": values.tolist() for name, values in seen.items()}
    columns |= {name: values.tolist() for name, values in scores.items()}
    return [
        {"index": index} | dict(zip(columns, values, strict=True))
        for index, values in enumerate(zip(*columns.values(), strict=True))
    ]


def show(title: str, scored: dict[str, dict[str, Tensor]]) -> None:
    """A table of means over the images, with the standard error of the PSNR's."""
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("", overflow="fold")
    for heading in ("MSE", "PSNR dB", "SSIM"):
        drawn.add_column(heading, justify="right")
    for name, scores in scored.items():
        cells = [UNITS[metric].format(float(scores[metric].mean())) for metric in UNITS]
        cells[1] += f" ± {standard_error(scores['psnr']):.2f}"
        drawn.add_row(name, *cells)
    print_table(drawn)


def standard_error(values: Tensor) -> float:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else float("nan")


def extremes(batch: Batch, reconstruction: Tensor, psnr: Tensor) -> Tensor:
    """Clean · seen · reconstructed, one row each, of the best, the median and the worst images."""
    order = psnr.argsort(descending=True)
    middle = max(0, (len(order) - SHOWN) // 2)
    chosen = torch.cat([order[:SHOWN], order[middle : middle + SHOWN], order[-SHOWN:]])
    return tile_rows(*(images[chosen] for images in (batch.clean, batch.seen, reconstruction)))


def target(loaded: LoadedRun, split: str) -> Path:
    """Where an evaluation goes, without its suffix."""
    name = title(loaded.data, loaded.config.noise, split)
    return loaded.run.path / "evaluated" / name


def title(data: ImageData, noise: DictConfig, split: str) -> str:
    """A file's name for some data with some noise: readable, and a hash of what they are."""
    settings = flat(OmegaConf.create({"noise": noise}))
    kind = settings["noise._target_"].rpartition(".")[2].lower()
    return f"{data.images.name}-{split}-{kind}-{digest([data.images.fingerprint, settings])}"
