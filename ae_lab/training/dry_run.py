"""A step of the model without data and memory, before anything is prepared, made or trained."""

import os
from collections.abc import Sequence

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core.errors import UserError, check_int, root_cause
from ae_lab.data.images import Batch

COPIES = 4  # of each weight in training: itself, its gradient, two moments


def check_model(config: DictConfig) -> None:
    """Build the model on torch's meta device, where tensors have a shape alone, and take a step.

    A part of one's own that looks at values cannot be run there: it is left to the training.

    Raises:
        UserError: the parts do not fit each other or the images, or the model does not fit into
            the machine's memory.
    """
    if None in (config.data.shape, config.data.classes):  # known when the images are
        return
    check_shape(config.data.shape, config.data.classes)
    with torch.device("meta"):
        try:
            model = instantiate(config.model)
        except Exception as error:
            raise_unless_meta(error, "the model cannot be built")
            return
        check_size(sum(p.numel() for p in model.parameters()))
        images, labels = torch.rand(2, *config.data.shape), torch.zeros(2, config.data.classes)
        batch = Batch(images, images, labels, torch.arange(2), images[:, :1])
        try:
            model.compute_losses(batch)
        except Exception as error:
            shape = tuple(config.data.shape)
            raise_unless_meta(error, f"the parts do not fit each other or images of {shape}")


def check_shape(shape: Sequence[int], classes: int) -> None:
    """Check that images have three sides, none of them empty, and labels no fewer than no class.

    Raises:
        UserError: they have not.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"data.shape must be [channels, height, width], got {list(shape)}")
    check_int("data.classes", classes, minimum=0)


def raise_unless_meta(error: Exception, what: str) -> None:
    """Raise an error as one line, unless it is of the meta device and not of the model."""
    cause = root_cause(error)
    cause = cause.__cause__ or cause if not isinstance(cause, UserError) else cause
    if isinstance(cause, UserError):
        raise cause
    if isinstance(cause, NotImplementedError) or "meta" in str(cause):
        return
    raise UserError(f"{what}: {' '.join(str(cause).split())}") from error


def check_size(num_parameters: int) -> None:
    """Check that the weights and what training keeps of each fit into memory.

    Raises:
        UserError: they do not.
    """
    needed = COPIES * 4 * num_parameters
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise UserError(
            f"the model has {num_parameters:,} parameters, which take {needed / 1e9:,.0f} GB to "
            f"train, and this machine has {memory / 1e9:,.0f}: choose a smaller latent, hidden or "
            "depth"
        )
