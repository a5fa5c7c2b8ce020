"""What tests build models with."""

from hydra.utils import instantiate

from ae_lab.core import configuration


def build(*overrides: str):
    """The model that these overrides stand for."""
    return instantiate(configuration.compose(["data=mnist5k", *overrides]).model)
