"""What tests build models with."""

from functools import cache

from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import configuration

FAMILIES = sorted(path.stem for path in (configuration.CONF / "model").glob("*.yaml"))
SMALL_CRITIC = ["model.critic.network.hidden=[8]"]
SMALL_CODEBOOK = ["model.bottleneck.quantizer.codebook_size=16"]
# Sizes that some families have beside `hidden` and `latent`.
SMALL_SIZES = {
    **dict.fromkeys(("aae", "factorvae", "vaegan"), SMALL_CRITIC),
    **dict.fromkeys(("rvq", "vqvae"), SMALL_CODEBOOK),
    "topk": ["model.bottleneck.k=1"],
    "unet": ["model.encoder.width=4", "model.encoder.blocks_per_stage=1"],
}


@cache
def compose(*overrides: str) -> DictConfig:
    """The configuration of these overrides; it is shared, so copy it before a change."""
    return configuration.compose(overrides)


def build(*overrides: str):
    """The model that these overrides stand for."""
    return instantiate(compose("data=mnist5k", *overrides).model)


def small_family(family: str) -> list[str]:
    """Overrides that choose a family, and small sizes where it has some of its own."""
    return [f"model={family}", *SMALL_SIZES.get(family, [])]
