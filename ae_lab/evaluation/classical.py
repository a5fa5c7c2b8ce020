"""Classical restoration: `method(image, strength) -> image`, float (H, W, C) in [0, 1].

Each comes with the strengths it may be tuned to. BM3D is in the optional package `bm3d`
(`pip install 'ae_lab[bench]'`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Method:
    """A denoiser, the strengths to choose from, and the optional package that it needs.

    One that `takes_mask` is given which pixels are missing, bool (H, W), in place of a strength.
    """

    denoise: Callable[[np.ndarray, object], np.ndarray]
    strengths: tuple = (None,)
    package: str | None = None
    takes_mask: bool = False


def median(image: np.ndarray, size: int) -> np.ndarray:
    """Each channel's median in a window. Source: Tukey, Exploratory Data Analysis, 1977."""
    from scipy.ndimage import median_filter

    return median_filter(image, size=(size, size, 1), mode="mirror")


def switching_median(image: np.ndarray, size: int) -> np.ndarray:
    """Pixels that are black or white in all channels become the median of the others around them.

    The window grows until it holds one that is not. Source: Sun & Neuvo, Pattern Recognition
    Letters 15 (1994) 341.
    """
    corrupted = ((image <= 0) | (image >= 1)).all(2)
    known = np.where(corrupted[..., None], np.nan, image)
    restored = image.copy()
    if corrupted.all():
        return restored
    for row, column in zip(*corrupted.nonzero(), strict=True):
        radius = size // 2
        while True:
            rows = slice(max(0, row - radius), row + radius + 1)
            around = known[rows, max(0, column - radius) : column + radius + 1]
            if not np.isnan(around).all():
                restored[row, column] = np.nanmedian(around, axis=(0, 1))
                break
            radius += 1
    return restored


def non_local_means(image: np.ndarray, strength: float) -> np.ndarray:
    """Averages over similar patches. Source: Buades, Coll & Morel, CVPR 2005."""
    from skimage.restoration import denoise_nl_means

    if image.shape[2] == 1:  # scikit-image loses a single channel
        return denoise_nl_means(image[..., 0], 5, 6, h=strength, fast_mode=True)[..., None]
    return denoise_nl_means(image, 5, 6, h=strength, fast_mode=True, channel_axis=2)


def total_variation(image: np.ndarray, strength: float) -> np.ndarray:
    """Least total variation nearby. Source: Chambolle, J. Math. Imaging Vis. 20 (2004) 89."""
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(image, weight=strength, channel_axis=2)


def wavelet(image: np.ndarray, sigma: float) -> np.ndarray:
    """BayesShrink. Source: Chang, Yu & Vetterli, IEEE Trans. Image Process. 9 (2000) 1532."""
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(image, sigma, convert2ycbcr=image.shape[2] == 3, channel_axis=2)


def bm3d(image: np.ndarray, sigma: float) -> np.ndarray:
    """Block matching and filtering, in colour. Source: Dabov et al., IEEE TIP 16 (2007) 2080."""
    import bm3d as package

    if np.ptp(image, axis=2).any():
        return package.bm3d_rgb(image, sigma)
    # One channel, or three that are the same, which the package would divide by zero for.
    return np.repeat(package.bm3d(image[..., 0], sigma)[..., None], image.shape[2], axis=2)


def bm3d_log(image: np.ndarray, strength: tuple[float, float]) -> np.ndarray:
    """BM3D on log(x + c), where noise that grows with x is nearly even; strength: (c, σ there)."""
    c, sigma = strength
    low, high = np.log(c), np.log(1 + c)
    even = (np.log(image + c) - low) / (high - low)
    return np.exp(bm3d(even, sigma / (high - low)) * (high - low) + low) - c


def bm3d_sqrt(image: np.ndarray, strength: tuple[float, float]) -> np.ndarray:
    """BM3D on √(x + c), Anscombe's transform up to scale; strength: (c, σ there)."""
    c, sigma = strength
    low, high = np.sqrt(c), np.sqrt(1 + c)
    even = (np.sqrt(image + c) - low) / (high - low)
    restored = bm3d(even, sigma / (high - low)) * (high - low) + low
    return np.maximum(restored, 0) ** 2 - c


def biharmonic(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Missing pixels, from a biharmonic equation.

    Source: Chui & Mhaskar, Appl. Comput. Harmon. Anal. 28 (2010) 104.
    """
    from skimage.restoration import inpaint_biharmonic

    return inpaint_biharmonic(image, missing, channel_axis=2, split_into_regions=True)


SIGMAS = (0.05, 0.08, 0.098, 0.12, 0.16, 0.2)
METHODS = {
    "median": Method(median, (3, 5)),
    "biharmonic": Method(biharmonic, takes_mask=True),
    "switching_median": Method(switching_median, (3, 5)),
    "non_local_means": Method(non_local_means, (0.04, 0.06, 0.08, 0.1, 0.14, 0.2)),
    "total_variation": Method(total_variation, (0.03, 0.05, 0.08, 0.12, 0.2, 0.3)),
    "wavelet": Method(wavelet, (None, *SIGMAS)),
    "bm3d": Method(bm3d, SIGMAS, "bm3d"),
    "bm3d_log": Method(
        bm3d_log,
        tuple((c, s) for c in (0.05, 0.1, 0.2, 0.4) for s in (0.1, 0.13, 0.16, 0.2)),
        "bm3d",
    ),
    "bm3d_sqrt": Method(
        bm3d_sqrt, tuple((c, s) for c in (0.01, 0.05, 0.1) for s in (0.04, 0.06, 0.08, 0.1)), "bm3d"
    ),
}
