"""The LightningDataModule of every data set."""

from collections.abc import Sequence

import pytorch_lightning as pl
from hydra.utils import instantiate
from omegaconf import DictConfig

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import SPLITS, Batch, ImageSet, Split
from ae_lab.data.loaders import EvalLoader, TrainLoader

LEAST_SIDE = 11  # pixels: the window of SSIM
EVAL_IMAGES, EVAL_PIXELS = 1000, 1_000_000  # at most, of a batch in validation and test


class ImageData(pl.LightningDataModule):
    """A data set and its noise; each split lives on the training device as one uint8 tensor.

    `shape` (C, H, W) and `classes` are what the images and labels must have; None is what they
    have. `batch_size` counts over all devices. `limit` caps each split at its first images.
    `exclude` leaves a class out of training and validation, to be found as anomalies in the test.
    `random_shift` moves training images by up to so many pixels, which keeps large codes from
    memorising them; `random_flip` mirrors half of them, `random_turn` turns them by quarters. With
    `binarize` each pixel is 0 or 1, drawn with its gray level as the probability: anew at every
    step in training, once for all in validation and test.

    Raises:
        UserError: batch_size, limit or shift is impossible, or the images do not have the stated
            shape or number of classes, or are smaller than SSIM's window.
    """

    def __init__(
        self,
        source: ImageSet,
        noise: Corruption,
        shape: Sequence[int] | None = None,
        classes: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
        limit: int | None = None,
        random_shift: int = 0,
        random_flip: bool = False,
        random_turn: bool = False,
        binarize: bool = False,
        exclude: str | None = None,
    ):
        super().__init__()
        self.noise, self.seed = noise, check_int("seed", seed, minimum=0)
        self.batch_size = check_int("batch_size", batch_size)
        self.random_shift = check_int("data.random_shift", random_shift, minimum=0)
        self.random_flip, self.random_turn = random_flip, random_turn
        self.binarize = binarize
        self.exclude = exclude
        limit = limit if limit is None else check_int("data.limit", limit)
        self.images = source.exclude(exclude).limit(limit)
        self.shape = self.images.train.shape
        self.classes = self.images.train.labels.shape[1]
        check_stated("data.shape", shape and list(shape), self.shape, source.title)
        check_stated("data.classes", classes, self.classes, source.title)
        if self.images.train.has_one_size:
            self.check_size(random_shift, random_turn)
        self.loaders: dict[str, EvalLoader] = {}

    def check_size(self, random_shift: int, random_turn: bool) -> None:
        """Check that images are large enough, and square where they are turned.

        Raises:
            UserError: they are not.
        """
        _, height, width = self.shape
        if random_shift >= min(height, width):
            raise UserError(
                f"data.random_shift={random_shift} moves images of {height}×{width} out of sight: "
                "give fewer pixels"
            )
        if random_turn and height != width:
            raise UserError(
                f"data.random_turn=true needs squares, images are {height}×{width}: leave it out"
            )
        if min(height, width) < LEAST_SIDE:
            raise UserError(f"images of {height}×{width} are too small: SSIM needs 11×11")

    def split(self, name: str) -> Split:
        """A split whose images are of one size.

        Raises:
            UserError: they are not.
        """
        split: Split = getattr(self.images, name)
        split.check_one_size()
        return split

    def eval_batch(self, name: str, n: int | None = None) -> Batch:
        """A split, or its first n images, as validation and test see it, in one batch on the CPU.

        Raises:
            UserError: there is no such split, or its images are not of one size.
        """
        loader = self.eval_batches(name, n)
        loader.split.check_one_size()
        return next(iter(loader))

    def eval_batches(self, name: str, n: int | None = None) -> EvalLoader:
        """The same as batches of images of one size: a single one, or one for each image.

        Raises:
            UserError: there is no such split.
        """
        check_choice("split", name, dict.fromkeys(SPLITS))
        split: Split = getattr(self.images, name).first(n)
        return EvalLoader(split, self.noise, name, len(split), binarize=self.binarize)

    def setup(self, stage: str) -> None:
        """Move the splits to the device, once."""
        trainer = self.trainer
        if not self.loaders:
            device = trainer.strategy.root_device
            ranks = (trainer.global_rank, trainer.world_size)
            batch = max(1, min(EVAL_IMAGES, EVAL_PIXELS // self.images.test.images[0].numel()))
            self.on_device = {name: self.split(name).to(device) for name in SPLITS}
            self.loaders = {
                name: EvalLoader(
                    self.on_device[name], self.noise, name, batch, *ranks, self.binarize
                )
                for name in ("val", "test")
            }

    def train_dataloader(self) -> TrainLoader:
        trainer = self.trainer
        progress = trainer.fit_loop.epoch_loop.batch_progress
        return TrainLoader(
            self.on_device["train"],
            self.noise,
            self.batch_size,
            self.seed,
            position=lambda: (trainer.current_epoch, progress.current.ready),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            random_shift=self.random_shift,
            random_flip=self.random_flip,
            random_turn=self.random_turn,
            binarize=self.binarize,
        )

    def val_dataloader(self) -> EvalLoader:
        return self.loaders["val"]

    def test_dataloader(self) -> EvalLoader:
        return self.loaders["test"]

    def transfer_batch_to_device(self, batch: Batch, device, dataloader_idx: int) -> Batch:
        return batch  # it was made there


def check_stated(name: str, stated: object, actual: object, title: str) -> None:
    """Check that a setting, if it is given at all, says what the data are.

    Raises:
        UserError: it does not.
    """
    if stated is not None and stated != actual:
        raise UserError(f"{name}={stated} does not fit {title}: set {name}={actual}")


def load_data(config: DictConfig) -> ImageData:
    """The data of a configuration, whose `data.shape` and `data.classes` then say what they are.

    The model is built from the same configuration, and so comes to know what a folder holds.

    Raises:
        UserError: the data cannot be had, or are not as the configuration says.
    """
    data = instantiate(config.data)
    config.data.shape, config.data.classes = data.shape, data.classes
    return data
