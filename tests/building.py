"""What tests build models with."""

from functools import cache

from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core import configuration

FAMILIES = sorted(path.stem for path in (configuration.CONF / "model").glob("*.yaml"))
# For `ae_lab.train`
TINY = {
    **{"data": "mnist5k", "latent": 2, "hidden": [16], "epochs": 1, "data.limit": 64},
    **{"trainer.enable_progress_bar": False, "logger": "none"},
}
TINY_UNET = {
    **{"data": "photos64", "data.limit": 8, "model": "unet", "depth": 1, "latent": 4, "epochs": 1},
    **{"model.encoder.width": 4, "model.encoder.blocks_per_stage": 1},
    **{"trainer.enable_progress_bar": False, "logger": "none"},
}
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
