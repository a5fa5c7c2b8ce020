"""The folder that `python -m ae_lab.export` writes: a model to share, without its run.

    <folder>/
        model.safetensors   the weights; no code runs when they are read
        config.yaml         the model's parts and their arguments, the data's name and fingerprint
        README.md           the model card
        pictures/           what the card shows

It may come from anyone, so what is read of it is checked before anything is built.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from ae_lab import data
from ae_lab.core.errors import UserError, root_cause
from ae_lab.core.trust import check_trusted, named_in
from ae_lab.models import Autoencoder
from ae_lab.tracking import run_files
from ae_lab.training.dry_run import check_model

WEIGHTS, CONFIG, CARD, PICTURES = "model.safetensors", "config.yaml", "README.md", "pictures"
APP, REQUIREMENTS = "app.py", "requirements.txt"  # of a Space of the Hugging Face hub
FORMAT = 1  # of config.yaml; raised when its keys change
SHAPE = {
    "format": int,
    "model": {"_target_": str},
    "data": {
        **{"name": str, "title": str, "fingerprint": str},
        **{"shape": [int], "classes": int, "class_names": [str]},
    },
}
AGAIN = "export the run again"


class ExportedFolder:
    """An exported model's folder."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def file(self, name: str) -> Path:
        """A file of the folder.

        Raises:
            UserError: it is missing, or a link that leads out of the folder.
        """
        file = self.path / name
        if not file.is_file():
            raise UserError(f"{file} is missing: {AGAIN}")
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise UserError(f"{file} is a link out of its folder, which is not followed: {AGAIN}")
        return file

    @cached_property
    def config(self) -> dict[str, Any]:
        """The content of config.yaml, as it is written.

        Raises:
            UserError: it is damaged, of another format, or refers to what is not in it.
        """
        file = self.file(CONFIG)
        config = run_files.read_yaml(file, SHAPE, AGAIN)
        if config["format"] != FORMAT:
            raise UserError(
                f"{file} is of format {config['format']}, and this version of ae_lab reads "
                f"{FORMAT}: {AGAIN}"
            )
        if "${" in json.dumps(config, default=str):  # a resolver may read the environment
            raise UserError(f"{file} has an interpolation, which no export writes: {AGAIN}")
        return config

    @property
    def about(self) -> dict[str, Any]:
        """The data that the model was trained on: name, fingerprint, shape, classes."""
        return self.config["data"]

    def check_builds_model_alone(self) -> None:
        """Check that what is built is an autoencoder, of parts that read and write no files.

        Raises:
            UserError: it is another part of ae_lab's, as a data set.
        """
        names = [*named_in(self.config["model"])]
        if foreign := [name for name in names if not is_model_part(name)]:
            raise UserError(
                f"{self.path} builds {foreign[0]}, which is no part of a model: {AGAIN}"
            )
        kind = get_object(self.config["model"]["_target_"])
        if not (isinstance(kind, type) and issubclass(kind, Autoencoder)):
            raise UserError(f"{self.path / CONFIG} describes no autoencoder: {AGAIN}")

    def load_model(self) -> Autoencoder:
        """The model with its weights, in evaluation mode on the CPU.

        Raises:
            UserError: the folder is damaged, or builds what is neither of ae_lab nor trusted.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        weights = self.file(WEIGHTS)
        config = OmegaConf.create(self.config)
        check_trusted(config, self.path, ["model"])
        self.check_builds_model_alone()
        check_model(config)  # also that it fits into memory
        try:
            state = load_file(weights)
        except SafetensorError as error:
            raise UserError(f"{weights} is damaged, or no safetensors file: {AGAIN}") from error
        try:
            model = instantiate(config.model)
        except HydraException as error:
            why = str(root_cause(error)).partition("\n")[0]
            raise UserError(f"{self.path / CONFIG} cannot be built ({why}): {AGAIN}") from error
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"{weights} is not of the model in {CONFIG}: put the files of one export together"
            ) from error
        return model.eval()


def is_model_part(name: str) -> bool:
    """Whether a model may have a trusted part: none that reads data, trains or writes logs."""
    package, _, attribute = name.rpartition(".")
    if package == "ae_lab.data":
        kind = getattr(data, attribute)
        return isinstance(kind, type) and issubclass(kind, data.Corruption)
    if package in ("ae_lab.models", "ae_lab.training"):
        return True
    return not name.startswith(("ae_lab.", "pytorch_lightning."))
