"""Autoencoder experiments with Hydra and PyTorch Lightning.

    import ae_lab

    model = ae_lab.train(model="vae", latent=8, data="mnist5k")  # or ae_lab.load("outputs/...")
    codes = model.encode(images)
    images = model.decode(codes)

torch is imported when one of these functions is first used.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"
_API = {"load": "ae_lab.inference.api", "train": "ae_lab.inference.api"}


def __getattr__(name: str) -> object:
    if name in _API:
        return getattr(import_module(_API[name]), name)
    raise AttributeError(f"module 'ae_lab' has no attribute '{name}'")


class _Package(ModuleType):
    """Python sets a package's modules as its attributes when they are imported. `ae_lab.train`
    stays the function, also once the command of that name is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _API:
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
