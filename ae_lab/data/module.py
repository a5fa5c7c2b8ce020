"""The LightningDataModule of every data set."""

from collections.abc import Sequence

import pytorch_lightning as pl

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import SPLITS, Batch, EvalLoader, ImageSet, Split, TrainLoader

LEAST_SIDE = 11  # pixels: the window of SSIM
EVAL_IMAGES, EVAL_PIXELS = 1000, 1_000_000  # at most, of a batch in validation and test


class ImageData(pl.LightningDataModule):
    """A data set and its noise; each split lives on the training device as one uint8 tensor.

    `batch_size` counts over all devices. `limit` caps each split at its first images.
    `random_shift` moves training images by up to so many pixels, which keeps large codes from
    memorising them; `random_flip` mirrors half of them. With `binarize` each pixel is 0 or 1, drawn
    with its gray level as the probability: anew at every step in training, once for all in
    validation and test.

    Raises:
        UserError: batch_size, limit or shift is impossible, or the images do not have the stated
            shape or are smaller than SSIM's window.
    """

    def __init__(
        self,
        source: ImageSet,
        noise: Corruption,
        shape: Sequence[int],
        classes: int,
        batch_size: int = 128,
        seed: int = 0,
        limit: int | None = None,
        random_shift: int = 0,
        random_flip: bool = False,
        binarize: bool = False,
    ):
        super().__init__()
        self.noise, self.seed = noise, check_int("seed", seed, minimum=0)
        self.batch_size = check_int("batch_size", batch_size)
        self.random_shift = check_int("data.random_shift", random_shift, minimum=0)
        self.random_flip, self.binarize = random_flip, binarize
        self.images = source.limit(limit if limit is None else check_int("data.limit", limit))
        actual = (*self.images.train.images.shape[1:], self.images.train.labels.shape[1])
        if actual != (*shape, classes):
            raise UserError(
                f"{source.title} is {actual} (channels, height, width, classes), "
                f"but data.shape and data.classes say {(*shape, classes)}"
            )
        if min(shape[1:]) < LEAST_SIDE:
            raise UserError(f"images of {shape[1]}×{shape[2]} are too small: SSIM needs 11×11")
        self.loaders: dict[str, EvalLoader] = {}

    def split(self, name: str) -> Split:
        return getattr(self.images, name)

    def eval_batch(self, name: str, n: int | None = None) -> Batch:
        """A split, or its first n images, as validation and test see it, in one batch on the CPU.

        Raises:
            UserError: there is no such split.
        """
        check_choice("split", name, dict.fromkeys(SPLITS))
        split = self.split(name).first(n)
        return next(iter(EvalLoader(split, self.noise, name, len(split), binarize=self.binarize)))

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
            binarize=self.binarize,
        )

    def val_dataloader(self) -> EvalLoader:
        return self.loaders["val"]

    def test_dataloader(self) -> EvalLoader:
        return self.loaders["test"]

    def transfer_batch_to_device(self, batch: Batch, device, dataloader_idx: int) -> Batch:
        return batch  # it was made there
