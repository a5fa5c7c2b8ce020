"""What a model makes of images: of each as it is, or of each turned and mirrored, on average."""

from itertools import product

import torch
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.data import Batch
from ae_lab.data.corruptions.corruption import is_map
from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.networks.conv import pad_to

SYMMETRIES = tuple(product(range(4), (False, True)))  # quarter turns, and whether it is mirrored


def reconstruct_images(model: Autoencoder, batch: Batch, self_ensemble: bool = False) -> Tensor:
    """The reconstructions (B, C, H, W) of a batch; what is stochastic takes its mean.

    With `self_ensemble` x̂ = 1/8 Σ T⁻¹ f(T x) over the symmetries T of a square: the errors of the
    eight differ, so that their mean is smaller. It takes eight times as long.

    Raises:
        UserError: the model takes images of one size alone, which is not square.

    Source: Timofte, Rothe & Van Gool, "Seven ways to improve example-based single image super
    resolution", CVPR 2016.
    """
    if not self_ensemble:
        return model(batch, draw=False).reconstruction
    height, width = batch.corrupted.shape[2:]
    if model.stride is None and height != width:
        raise UserError(
            f"self_ensemble=true turns images, and the run takes {height}×{width} alone: leave it "
            "out"
        )
    # Padded first, so that the network's places are the same for a tile as for the whole image.
    stride = model.stride or 1
    image, side = pad_to(batch.corrupted, stride), batch.side
    if is_map(side):
        side = pad_to(side, stride)
    total = torch.zeros_like(image)
    for symmetry in SYMMETRIES:
        turned = transform(image, *symmetry)
        told = side if side is None else transform(side, *symmetry)
        one = batch._replace(clean=turned, corrupted=turned, side=told)
        total += restore_place(model(one, draw=False).reconstruction, *symmetry)
    return (total / len(SYMMETRIES))[..., :height, :width]


def transform(images: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """Images (..., H, W) turned by so many quarters, then mirrored."""
    turned = images.rot90(quarters, (-2, -1))
    return turned.flip(-1) if mirrored else turned


def restore_place(images: Tensor, quarters: int, mirrored: bool) -> Tensor:
    """The inverse of `transform`."""
    upright = images.flip(-1) if mirrored else images
    return upright.rot90(-quarters, (-2, -1))
