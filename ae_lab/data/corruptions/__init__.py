"""Corruptions of an image: `corruption(x, generator) -> (corrupted, side)`.

`side` is what is known of the corruption, and None where that is nothing. A new one is a subclass
of `Corruption` and one file in `conf/noise/`.
"""

from ae_lab.data.corruptions.corruption import Corruption, Level
from ae_lab.data.corruptions.degradation import Downsampling, GaussianBlur, JPEGCompression
from ae_lab.data.corruptions.mask import Mask
from ae_lab.data.corruptions.noise import (
    GaussianNoise,
    MixedNoise,
    PoissonNoise,
    SaltPepperNoise,
    SpeckleNoise,
)

__all__ = [
    "Corruption",
    "Downsampling",
    "GaussianBlur",
    "GaussianNoise",
    "JPEGCompression",
    "Level",
    "Mask",
    "MixedNoise",
    "PoissonNoise",
    "SaltPepperNoise",
    "SpeckleNoise",
]
