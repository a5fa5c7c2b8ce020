"""What tests build models with."""

from functools import cache

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ae_lab.core import configuration

FAMILIES = sorted(path.stem for path in (configuration.CONF / "model").glob("*.yaml"))
# Sizes beside `hidden` and `latent` that some families have, and small values for them.
SIZES = {
    "model.critic.network.hidden": [8],
    "model.encoder.width": 4,
    "model.encoder.blocks_per_stage": 1,
    "model.bottleneck.quantizer.codebook_size": 16,
    "model.bottleneck.k": 1,
}


@cache
def compose(*overrides: str) -> DictConfig:
    """The configuration of these overrides; it is shared, so copy it before a change."""
    return configuration.compose(overrides)


def build(*overrides: str):
    """The model that these overrides stand for."""
    return instantiate(compose("data=mnist5k", *overrides).model)


def tiny_family(family: str) -> list[str]:
    """Overrides that make a family, with small sizes where it has them."""
    config = compose(f"model={family}")
    sizes = [f"{k}={v}" for k, v in SIZES.items() if OmegaConf.select(config, k) is not None]
    return [f"model={family}", *sizes]
