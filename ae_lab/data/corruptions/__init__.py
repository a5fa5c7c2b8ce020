"""Corruptions of an image: `corruption(x, generator) -> corrupted`.

A new one is a subclass of `Corruption` and one file in `conf/noise/`.
"""

from ae_lab.data.corruptions.corruption import Corruption, Level
from ae_lab.data.corruptions.noise import GaussianNoise, MixedNoise, SaltPepperNoise, SpeckleNoise

__all__ = [
    "Corruption",
    "GaussianNoise",
    "Level",
    "MixedNoise",
    "SaltPepperNoise",
    "SpeckleNoise",
]
