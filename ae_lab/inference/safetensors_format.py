"""A model to share: weights, configuration, a model card and pictures; see `exported_folder`."""

from pathlib import Path

import torch
import yaml
from omegaconf import OmegaConf

from ae_lab import __version__
from ae_lab.core.files import replace_atomically, write_text
from ae_lab.core.images import save_png, tile_rows
from ae_lab.core.trust import EXTRAS, named_in
from ae_lab.inference.exported_folder import (
    APP,
    CARD,
    CONFIG,
    FORMAT,
    PICTURES,
    REQUIREMENTS,
    WEIGHTS,
)
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.inference.model_card import describe_model
from ae_lab.models import Autoencoder

NUM_SHOWN = 10  # images in a row of a picture


SPACE = """import ae_lab
from ae_lab.browser.app import build_app

build_app([ae_lab.load(".")]).launch()
"""


class SafetensorsFormat:
    """The folder that `ae_lab.load` takes. `license` is what the card says of the weights. With
    `space` it also holds what makes it a Space of the Hugging Face hub: the app, for this model.
    """

    def __init__(self, license: str = "mit", space: bool = False):
        self.license, self.space = license, space

    def write(self, loaded: LoadedRun, folder: Path) -> list[str]:
        save_weights(loaded.model, folder / WEIGHTS)
        text = yaml.safe_dump(describe_config(loaded), sort_keys=False, allow_unicode=True)
        write_text(folder / CONFIG, text)
        pictures = draw_pictures(loaded, folder / PICTURES)
        card = describe_model(loaded, [file.name for file in pictures], self.license, self.space)
        write_text(folder / CARD, card)
        written = [WEIGHTS, CONFIG, CARD]
        if self.space:
            write_text(folder / APP, SPACE)
            write_text(folder / REQUIREMENTS, describe_requirements(loaded))
            written += [APP, REQUIREMENTS]
        return [str(folder / name) for name in written] + [*map(str, pictures)]


def save_weights(model: Autoencoder, file: Path) -> None:
    """Write all parameters and buffers, each as a tensor of its own."""
    from safetensors.torch import save_file

    weights = {name: value.cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with replace_atomically(file) as beside:
        save_file(weights, beside)


def describe_config(loaded: LoadedRun) -> dict:
    """The content of config.yaml: what `ExportedFolder` reads, and what the run was."""
    config, record, images = loaded.run.config, loaded.run.record, loaded.data.images
    return {
        "format": FORMAT,
        "model": OmegaConf.to_container(config.model, resolve=True),
        "data": {
            **{key: str(record["data"][key]) for key in ("name", "title", "fingerprint")},
            "shape": list(loaded.data.shape),
            "classes": loaded.data.classes,
            "class_names": list(images.class_names),
        },
        "run": {"name": loaded.run.name, "choices": loaded.run.choices},
        "metrics": loaded.run.metrics,
    }


def describe_requirements(loaded: LoadedRun) -> str:
    """What a Space installs: this version, with the extras of the model's parts."""
    model = OmegaConf.to_container(loaded.run.config.model, resolve=True)
    packages = {name.partition(".")[0] for name in named_in(model)}
    extras = sorted({"app"} | {EXTRAS[name] for name in packages & EXTRAS.keys()})
    return f"ae_lab[{','.join(extras)}]=={__version__}\n"


def draw_pictures(loaded: LoadedRun, folder: Path) -> list[Path]:
    """Test images over what the model makes of them; random images, where codes alone make some."""
    output = loaded.predict(min(NUM_SHOWN, len(loaded.data.split("test"))))
    is_corrupted = not torch.equal(output.clean, output.corrupted)
    rows = [output.clean, *([output.corrupted] if is_corrupted else []), output.reconstruction]
    files = [save_png(tile_rows(*rows), folder / "reconstructions.png")]
    if loaded.model.bottleneck.has_prior and loaded.model.can_generate:
        images = loaded.decode(*loaded.sample_codes(4 * NUM_SHOWN, None, None, seed=0))
        rows = images.split(NUM_SHOWN)
        files.append(save_png(tile_rows(*rows), folder / "samples.png"))
    return files
