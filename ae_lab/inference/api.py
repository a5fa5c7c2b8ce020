"""A trained autoencoder in a few lines of Python: `ae_lab.load` and `ae_lab.train`.

The examples are tests; `path` in them is the folder of a small variational run on digits.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ae_lab.core.quoting import write_override
from ae_lab.core.trust import trust as trust_names
from ae_lab.inference.exported_folder import WEIGHTS, ExportedFolder
from ae_lab.inference.hub import fetch_folder, is_hub_name
from ae_lab.inference.loaded_run import load_model, load_run
from ae_lab.inference.model import Model
from ae_lab.tracking.run import Run
from ae_lab.training.from_python import train_overrides


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    trust: Sequence[str] = (),
) -> Model:
    """The model of a finished run's folder, of a folder that `python -m ae_lab.export` wrote, or of
    such a folder on the Hugging Face hub, by its name "user/name", if no folder here is called so.

    An exported folder needs neither the run nor its data. What it holds is checked before anything
    of it is built: `trust` are packages of parts that are not ae_lab's and that it may build.

    >>> model = ae_lab.load(path)
    >>> model.code_shape
    (2,)

    Raises:
        UserError: it is no such folder, is damaged or not finished, or builds what is not trusted.
    """
    trust_names(*trust)
    path = Path(path)
    if is_hub_name(str(path)) and not path.parent.exists():
        path = fetch_folder(str(path))
    if (path / WEIGHTS).exists():
        folder = ExportedFolder(path)
        network, about, load_data = folder.load_model(), folder.about, None
    else:
        run = Run(path)
        network, about, load_data = load_model(run), dict(run.config.data), lambda: load_run(run)
    return Model(network, path, about, load_data, device, batch_size)


def train(*overrides: str, **settings: Any) -> Model:
    """Train a model as the command line does, and load it.

    `ae_lab.train("noise.sigma=0.2", model="vae", latent=8, data="mnist5k", noise="gaussian")` is
    `python -m ae_lab.train model=vae ... noise.sigma=0.2`: the same run, in the same folder, which
    is returned at once where it is done, and resumed where it was interrupted.

    >>> model = ae_lab.train("data.limit=64", model="vae", latent=2, hidden=[16], data="mnist5k",
    ...                      epochs=1)
    >>> model.decode([[0.0, 0.0]]).shape
    torch.Size([1, 1, 28, 28])

    Raises:
        UserError: the request cannot be carried out; nothing was written.
        RunFailed: the run had started; what it saved is kept.
    """
    words = [write_override(key, value) for key, value in settings.items()]
    return load(train_overrides([*words, *overrides]).path)
