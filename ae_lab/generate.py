"""Random codes through a run's decoder.

python -m ae_lab.generate run=outputs/runs/... label=7 n=64 sampler=gmm
"""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from ae_lab import config as configuration
from ae_lab.callbacks import grid
from ae_lab.errors import UserError, whole
from ae_lab.restore import restore
from ae_lab.run import Run

ENLARGED = 3


def generate(config: DictConfig) -> Path:
    """Draw `n` codes, decode them, and write one PNG grid.

    Raises:
        UserError: no run named, or one that cannot do what is asked.
    """
    if config.run is None:
        raise UserError("which run? Give run=outputs/runs/...; `python -m ae_lab.runs` lists them")
    n, columns = whole("n", config.n), whole("columns", config.columns)
    restored = restore(Run(Path(config.run)))
    sampler = config.sampler and instantiate(config.sampler)
    images = restored.generate(n, config.label, sampler, whole("seed", config.seed, least=0))
    blank = images.new_ones(-n % columns, *images.shape[1:])
    picture = grid(*torch.cat([images, blank]).split(columns))
    return save(picture, target(config, restored.run))


def target(config: DictConfig, run: Run) -> Path:
    label = "" if config.label is None else f"-label{config.label}"
    choice = configuration.choices().get("sampler")
    sampler = "" if choice in (None, "null") else f"-{choice}"
    name = f"n{config.n}{label}{sampler}-seed{config.seed}.png"
    return Path(config.file or run.path / "generated" / name)


def save(picture, file: Path) -> Path:
    """Write an image (C, H, W) in [0, 1] as PNG, enlarged so that its pixels can be seen."""
    values = (picture.permute(1, 2, 0) * 255).round().byte().numpy()
    image = Image.fromarray(values.squeeze())
    image = image.resize([side * ENLARGED for side in image.size], Image.Resampling.NEAREST)
    file.parent.mkdir(parents=True, exist_ok=True)
    image.save(file)
    print(file)
    return file


def main() -> None:
    configuration.launch(configuration.guarded(generate), "generate")


if __name__ == "__main__":
    main()
