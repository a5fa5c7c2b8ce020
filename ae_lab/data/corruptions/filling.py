"""Missing pixels, interpolated from the others."""

import torch
from torch import Tensor
from torch.nn import functional as F

# The fastest for a curvature of ‖Δx‖² between 1, that of gaps of some pixels, and 64, the largest.
NUM_STEPS, STEP, MOMENTUM = 10, 4 / (8 + 1) ** 2, ((8 - 1) / (8 + 1)) ** 2
BAND = 1 << 20  # pixels of a photograph that take these steps at a time, which need memory


def fill_smoothly(x: Tensor, missing: Tensor) -> Tensor:
    """Images (B, C, H, W) whose missing pixels, (B, 1, H, W), are interpolated from the others.

    Means of the known pixels are taken at half the size, at a quarter, and so on; where none is
    known, what is there at half the size, enlarged, stands in. From there, 10 steps of gradient
    descent with momentum make ‖Δx‖² small, Δ being the Laplacian. Narrow gaps are then filled as
    the biharmonic equation ΔΔx = 0 fills them. What lies under the missing pixels has no influence.

    Source: Gortler, Grzeszczuk, Szeliski & Cohen, "The Lumigraph", SIGGRAPH 1996, pull-push;
    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, the steps.
    """
    known = (~missing.bool()).to(x.dtype)
    filled, rows = pull_push(x * known, known), max(BAND // x.shape[3], 1)
    bands = []
    for top in range(0, x.shape[2], rows):  # each with as many rows around it as have an influence
        above = max(0, top - 2 * NUM_STEPS)
        around = slice(above, top + rows + 2 * NUM_STEPS)
        band = smooth(filled[:, :, around], known[:, :, around])
        bands.append(band[:, :, top - above :][:, :, :rows])
    return torch.cat(bands, dim=2)


def smooth(x: Tensor, known: Tensor) -> Tensor:
    """Images (B, C, H, W) whose Laplacian is made small by what is not known, 0 in (B, 1, H, W)."""
    before = x
    for _ in range(NUM_STEPS):
        slope = laplacian(laplacian(x)).mul_(1 - known)
        x, before = x - STEP * slope + MOMENTUM * (x - before), x
    return x


def laplacian(x: Tensor) -> Tensor:
    """Σ over the neighbours inside the image, four at most, of how far each is above a pixel."""
    across, down = x.diff(dim=3), x.diff(dim=2)
    change = torch.zeros_like(x)
    change[..., :-1] += across
    change[..., 1:] -= across
    change[..., :-1, :] += down
    change[..., 1:, :] -= down
    return change


def pull_push(total: Tensor, known: Tensor) -> Tensor:
    """What sums (B, C, H, W) over so many known pixels, (B, 1, H, W), are at each place."""
    mean = total / known.clamp_min(torch.finfo(total.dtype).tiny)
    size = total.shape[2:]
    if max(size) == 1:
        return mean
    halves = (F.avg_pool2d(one, 2, ceil_mode=True) for one in (total, known))
    coarse = F.interpolate(pull_push(*halves), size, mode="bilinear", align_corners=False)
    return torch.where(known > 0, mean, coarse)
