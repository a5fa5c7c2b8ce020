"""Preparing what `data` asks for, ahead of time."""

import json
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import validation
from ae_lab.data.images import SPLITS


def prepare_data(config: DictConfig) -> None:
    """Prepare a data set, print its sizes and where it is kept."""
    validation.check_parts(config)
    images = instantiate(config.data.source)
    sizes = ", ".join(f"{len(getattr(images, name)):,} {name}" for name in SPLITS)
    print(f"{images.title}: {sizes}")
    for path in Path(config.paths.cache).expanduser().glob("*/about.json"):
        if json.loads(path.read_text())["fingerprint"] == images.fingerprint:
            print(f"prepared in {path.parent}, report in {path.parent / 'report.json'}")
