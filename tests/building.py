"""What tests build models with."""

from hydra.utils import instantiate

from ae_lab import config


def build(*overrides: str):
    """The model that these overrides stand for."""
    return instantiate(config.composed(["data=mnist5k", *overrides]).model)
