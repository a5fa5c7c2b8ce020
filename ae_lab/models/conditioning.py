"""Where labels and what is known of a corruption enter a model, and data that have none."""

from typing import Any

from ae_lab.core.errors import UserError
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import ImageSet
from ae_lab.models.autoencoder import Autoencoder


def label_settings(model: Autoencoder) -> list[str]:
    """The settings by which a model takes labels; none where it takes none."""
    # Bottlenecks from outside the package need not have a part for their prior.
    prior = getattr(model.bottleneck, "prior", None)
    settings = {
        "conditional=true": model.conditional,
        "condition_encoder=true": model.condition_encoder,
        "model.bottleneck.prior=label": getattr(prior, "uses_label", False),
    }
    return [text for text, is_set in settings.items() if is_set]


def check_labels(model: Autoencoder, images: ImageSet) -> None:
    """Check that images have labels where a model takes them.

    Raises:
        UserError: they have none.
    """
    settings = label_settings(model)
    if settings and not images.has_labels:
        raise UserError(
            f"{images.title} has no labels for {' and '.join(settings)}: with data=folder set "
            "data.source.labels=folders (its sub-folders are the classes), else choose data=mnist"
        )


def check_side(model: Autoencoder, noise: Corruption) -> None:
    """Check that a corruption tells something where a model is to know of it.

    Raises:
        UserError: it does not.
    """
    if model.side and not noise.tells:
        raise UserError(
            f"model.side=true tells the network what is known of the corruption, and "
            f"{type(noise).__name__} tells nothing: choose another, as noise=mask, or leave it out"
        )


def check_told(model: Autoencoder, name: str, side: Any) -> None:
    """Check that who uses a model, which errors call `name`, tells it of a corruption if it asks.

    Raises:
        UserError: nothing is told, or more than the model takes.
    """
    if model.side and side is None:
        raise UserError(
            f"{name} is told what is known of a corruption: give side=0.1, a level, or a mask, "
            "white where something is missing, as side=mask.png"
        )
    if side is not None and not model.side:
        raise UserError(f"{name} is told nothing of corruptions: leave out side")
