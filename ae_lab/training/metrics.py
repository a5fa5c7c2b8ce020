"""Image quality: functions of each image, and torchmetrics' `Metric`s of them; use of codes.

The functions take images and their references, (B, C, H, W), pixels in [0, 1], and return (B,) in
float32.
"""

from functools import cache

import torch
from torch import Tensor
from torchmetrics import Metric

from ae_lab.core.errors import check_float
from ae_lab.core.hardware import full_precision

ACTIVE_VARIANCE = 0.01  # of a code's mean over images, above which a dimension is in use
PSNR_CAP = 100.0  # dB: what two identical images get, and any pair with an MSE below 1e-10


def mse(image: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error per pixel: (1/CHW) Σ (image - reference)²."""
    return (image.float() - reference.float()).square().flatten(1).mean(1)


def psnr(image: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB: -10·log10(MSE), at most `PSNR_CAP`.

    A mean over images is the mean of these values, not the PSNR of the pooled MSE.
    """
    return decibels(mse(image, reference))


def decibels(error: Tensor) -> Tensor:
    """The PSNR of mean squared errors."""
    return -10 * error.clamp_min(10 ** (-PSNR_CAP / 10)).log10()


@cache
def _window(size: int, device: torch.device) -> Tensor:
    """The band matrix (size - 10, size) whose product is a Gaussian-weighted moving average."""
    offsets = torch.arange(11, device=device, dtype=torch.float32) - 5
    weights = torch.exp(-(offsets**2) / (2 * 1.5**2))
    band = torch.zeros(size - 10, size, device=device, dtype=torch.float32)
    for row in range(size - 10):
        band[row, row : row + 11] = weights / weights.sum()
    return band


def ssim(image: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity, averaged over every place where an 11×11 window fits.

    (2 μx μy + c₁)(2 σxy + c₂) / ((μx² + μy² + c₁)(σx² + σy² + c₂)), moments weighted by a Gaussian
    of σ = 1.5 pixels, c₁ = 0.01², c₂ = 0.03². Images have at least 11×11 pixels.

    The window is separable, so its moments are two small matrix products: some 20 times faster
    on a CPU than a convolution with the 11×11 window, and this runs at every validation.

    Source: Wang, Bovik, Sheikh & Simoncelli, IEEE Trans. Image Process. 13 (2004) 600.
    """
    x, y = image.float(), reference.float()
    rows, columns = (_window(size, x.device) for size in x.shape[2:])

    def blur(z: Tensor) -> Tensor:
        return rows @ z @ columns.T

    mean_x, mean_y = blur(x), blur(y)
    both, product = mean_x.square() + mean_y.square(), mean_x * mean_y
    variances = blur(x.square() + y.square()) - both
    covariance = blur(x * y) - product
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * product + c1) * (2 * covariance + c2) / ((both + c1) * (variances + c2))
    return similarity.flatten(1).mean(1)


class ImageMetric(Metric):
    """The mean over images of a function of each image; images are summed over ranks.

    `update` takes images and their references, (B, C, H, W), pixels in [0, 1].
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def per_image(self, image: Tensor, reference: Tensor) -> Tensor:
        """One value for each image, (B,)."""
        raise NotImplementedError

    def update(self, image: Tensor, reference: Tensor) -> None:
        values = self.per_image(image, reference)
        self.total += values.sum()
        self.count += len(values)

    def compute(self) -> Tensor:
        return self.total.double() / self.count


class MSE(ImageMetric):
    """Mean squared error per pixel; see `mse`."""

    higher_is_better = False

    def per_image(self, image: Tensor, reference: Tensor) -> Tensor:
        return mse(image, reference)


class PSNR(ImageMetric):
    """Peak signal-to-noise ratio in dB; see `psnr`."""

    higher_is_better = True

    def per_image(self, image: Tensor, reference: Tensor) -> Tensor:
        return psnr(image, reference)


class SSIM(ImageMetric):
    """Structural similarity; see `ssim`. torchmetrics' own takes 20 times as long on a CPU."""

    higher_is_better = True

    def per_image(self, image: Tensor, reference: Tensor) -> Tensor:
        return ssim(image, reference)


class ActiveUnits(Metric):
    """Dimensions of a Gaussian code whose mean varies over images: its variance exceeds .01.

    `requires` names the bottleneck's outputs that the model hands to `update` beside images and
    their references. Source: Burda, Grosse & Salakhutdinov, ICLR 2016.
    """

    full_state_update = False
    higher_is_better = True
    requires = frozenset({"mean"})

    def __init__(self, threshold: float = ACTIVE_VARIANCE) -> None:
        super().__init__()
        self.threshold = check_float("threshold", threshold)
        for name in ("count", "total", "squares"):
            self.add_state(name, torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, image: Tensor, reference: Tensor, mean: Tensor) -> None:
        mean = mean.double()
        self.count = self.count + len(mean)
        self.total, self.squares = self.total + mean.sum(0), self.squares + mean.square().sum(0)

    def compute(self) -> Tensor:
        variance = self.squares - self.total.square() / self.count
        return (variance / (self.count - 1).clamp_min(1) > self.threshold).sum()


class CodebookMetric(Metric):
    """A function of how often each entry of a codebook was chosen, over all images and ranks.

    Counts are summed until `compute`, over an epoch: of few tokens, as in a batch, many entries are
    none's choice. With several levels, each with a codebook, it is their mean.
    """

    full_state_update = False
    higher_is_better = True
    requires = frozenset({"index_counts"})

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.tensor(0), dist_reduce_fx="sum")

    def per_level(self, frequencies: Tensor) -> Tensor:
        """Of the frequencies (levels, entries), which sum to 1 in each level, one value each."""
        raise NotImplementedError

    def update(self, image: Tensor, reference: Tensor, index_counts: Tensor) -> None:
        self.counts = self.counts + index_counts

    def compute(self) -> Tensor:
        return self.per_level(self.counts / self.counts.double().sum(-1, keepdim=True)).mean()


class CodebookUsage(CodebookMetric):
    """The share of a codebook's entries that were chosen at all."""

    def per_level(self, frequencies: Tensor) -> Tensor:
        return (frequencies > 0).double().mean(-1)


class CodebookPerplexity(CodebookMetric):
    """exp(-Σ p log p) of the frequencies p of a codebook's entries: how many are in even use."""

    def per_level(self, frequencies: Tensor) -> Tensor:
        return torch.special.entr(frequencies).sum(-1).exp()


def image_metrics(image: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """MSE, PSNR and SSIM of each image, by name."""
    with full_precision(image.device):
        return {metric.__name__: metric(image, reference) for metric in (mse, psnr, ssim)}
