"""Images on the training device, and where they come from.

`module` is the LightningDataModule of every data set, `images` what it holds, `loaders` its
batches, `augmentation` how training images are varied; `corruptions` are what the encoder is given
in place of clean images; `sources` are data sets; `preparation` decodes files once into a cache.
"""

from ae_lab.data.corruptions import (
    Corruption,
    Downsampling,
    GaussianBlur,
    GaussianNoise,
    JPEGCompression,
    Mask,
    MixedNoise,
    PoissonNoise,
    SaltPepperNoise,
    SpeckleNoise,
)
from ae_lab.data.images import Batch, ImageSet, Split
from ae_lab.data.module import ImageData
from ae_lab.data.sources.coco import coco, coco_or_embedded
from ae_lab.data.sources.folder import image_folder
from ae_lab.data.sources.mnist import mnist, mnist5k, mnist_or_embedded
from ae_lab.data.sources.photos import photos64
from ae_lab.data.sources.sprites import sprites

__all__ = [
    "Batch",
    "Corruption",
    "Downsampling",
    "GaussianBlur",
    "GaussianNoise",
    "ImageData",
    "ImageSet",
    "JPEGCompression",
    "Mask",
    "MixedNoise",
    "PoissonNoise",
    "SaltPepperNoise",
    "SpeckleNoise",
    "Split",
    "coco",
    "coco_or_embedded",
    "image_folder",
    "mnist",
    "mnist5k",
    "mnist_or_embedded",
    "photos64",
    "sprites",
]
