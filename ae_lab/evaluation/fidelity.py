"""How generated images compare with real ones, by features (N, D) of both.

Distances are taken in the features of the project's own classifier: figures compare among runs on
the same data, not with those of Inception's features in the literature.
"""

from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from torch import Tensor

from ae_lab.core.errors import UserError

NUM_NEIGHBOURS = 5


def frechet_distance(real: Tensor, generated: Tensor) -> float:
    """The squared Fréchet distance of the normal distributions fitted to both:

    |m₁ - m₂|² + tr(S₁ + S₂ - 2 (S₁ S₂)^½)

    Source: Heusel et al., NeurIPS 2017.
    """
    (m1, s1), (m2, s2) = (
        (part.mean(0), part.T.cov()) for part in (real.double(), generated.double())
    )
    # The root's trace is the sum of the eigenvalues' roots, real and at least 0 but for rounding.
    values = np.linalg.eigvals((s1 @ s2).numpy()).real.clip(min=0)
    trace = float(s1.trace() + s2.trace()) - 2 * float(np.sqrt(values).sum())
    return float((m1 - m2).square().sum()) + trace


def manifold_scores(real: Tensor, generated: Tensor, k: int = NUM_NEIGHBOURS) -> dict[str, float]:
    """What the spheres about each point, out to its k-th neighbour of the same kind, hold:

    precision  the share of generated points inside some real sphere
    recall     the share of real points inside some generated sphere
    density    how many real spheres hold a generated point, over k; 1 for real data itself
    coverage   the share of real spheres that hold a generated point

    Source: Kynkäänniemi et al., NeurIPS 2019; Naeem et al., ICML 2020.
    """
    real_radius, generated_radius = neighbour_distance(real, k), neighbour_distance(generated, k)
    distance = torch.cdist(real, generated)
    inside = distance < real_radius[:, None]
    return {
        "precision": float(inside.any(0).float().mean()),
        "recall": float((distance < generated_radius).any(1).float().mean()),
        "density": float(inside.float().sum(0).mean() / k),
        "coverage": float(inside.any(1).float().mean()),
    }


def neighbour_distance(points: Tensor, k: int) -> Tensor:
    """The distance from each point to its k-th neighbour among the others."""
    return torch.cdist(points, points).kthvalue(k + 1, dim=1).values


def inception_distance(real: Tensor, generated: Tensor, weights: Path, chunk: int = 50) -> float:
    """The FID of the literature: the Fréchet distance in Inception's 2,048 pooled features.

    Images (N, C, H, W) in [0, 1], gray ones three times over, enlarged to 299×299. `weights` is the
    network's file as torch-fidelity names it, `pt_inception-2015-12-05-6726825d.pth`.

    Source: Heusel et al., NeurIPS 2017; by torchmetrics and torch-fidelity.

    Raises:
        UserError: the weights are not there or are no weights, or torch-fidelity is not installed.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if find_spec("torch_fidelity") is None:
        raise UserError("torch-fidelity is not installed: pip install 'ae_lab[fid]'")
    try:
        torch.load(weights, weights_only=True)  # torch-fidelity would run what it finds there
        distance = FrechetInceptionDistance(
            normalize=True, feature_extractor_weights_path=str(weights)
        )
    except (OSError, UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{weights} does not hold Inception's weights ({type(error).__name__}): give the file "
            "pt_inception-2015-12-05-6726825d.pth of torch-fidelity"
        ) from error
    for images, is_real in ((real, True), (generated, False)):
        for part in images.split(chunk):
            distance.update(part.expand(-1, 3, -1, -1), real=is_real)
    return float(distance.compute())
