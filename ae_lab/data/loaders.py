"""Batches on the device: an index, a conversion and a noise, whole batches at a time."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import derive, generator
from ae_lab.data.augmentation import binarize_pixels, flip_images, shift_images, turn_images
from ae_lab.data.corruptions import Corruption
from ae_lab.data.images import Batch, Split, to_pixels


class TrainLoader:
    """Shuffled batches with fresh noise, in an order that is a function of (seed, epoch) alone.

    `random_shift` moves each image by up to so many pixels, anew each time it is shown;
    `random_flip` mirrors half of them left to right, `random_turn` turns them by quarters; with
    `binarize` pixels are drawn, anew too.

    A global batch is cut into equal parts, one for each rank. Every image comes once an epoch; the
    last batch is shorter, or longer by one image a rank, and with several ranks up to
    world_size - 1 images of it are left out.
    It has no state: `position()` says which epoch it is and how many batches of it are done, so
    that a run resumes in the middle of one.

    Raises:
        UserError: the batch cannot be shared equally among the ranks, or the split is too small.
    """

    def __init__(
        self,
        split: Split,
        noise: Corruption,
        batch_size: int,
        seed: int,
        position: Callable[[], tuple[int, int]],
        rank: int = 0,
        world_size: int = 1,
        random_shift: int = 0,
        random_flip: bool = False,
        random_turn: bool = False,
        binarize: bool = False,
    ):
        if batch_size % world_size:
            raise UserError(
                f"batch_size={batch_size} is the size over all devices and cannot be shared "
                f"equally among {world_size}: give a multiple of {world_size}"
            )
        if len(split) < world_size:
            raise UserError(f"{len(split)} training images are too few for {world_size} devices")
        self.split, self.noise, self.batch_size = split, noise, batch_size
        self.seed, self.position, self.rank, self.world_size = seed, position, rank, world_size
        self.random_shift, self.random_flip = random_shift, random_flip
        self.random_turn, self.binarize = random_turn, binarize
        self.generator = torch.Generator(split.images.device)

    def __len__(self) -> int:
        whole, tail = divmod(len(self.split), self.batch_size)
        # One image a rank has no variance to normalise by: it joins the batch before.
        least = self.world_size * (2 if whole else 1)
        return whole + (tail >= least)

    def __iter__(self) -> Iterator[Batch]:
        epoch, done = self.position()
        order = torch.randperm(len(self.split), generator=generator(self.seed, "shuffle", epoch))
        order = order.to(self.split.images.device)
        for number in range(done, len(self)):
            end = (number + 1) * self.batch_size if number + 1 < len(self) else None
            index = order[number * self.batch_size : end]
            share = len(index) // self.world_size
            index = index[self.rank * share : (self.rank + 1) * share]
            self.generator.manual_seed(derive(self.seed, "noise", epoch, number, self.rank))
            images = self.split.images.index_select(0, index)  # several times faster than [index]
            if self.random_shift:
                images = shift_images(images, self.random_shift, self.generator)
            if self.random_flip:
                images = flip_images(images, self.generator)
            if self.random_turn:
                images = turn_images(images, self.generator)
            clean = to_pixels(images)
            if self.binarize:
                clean = binarize_pixels(clean, self.generator)
            corrupted, side = self.noise(clean, self.generator)
            label = self.split.labels.index_select(0, index).float()
            yield Batch(clean, corrupted, label, index, side)


class EvalLoader:
    """Batches in order, each image with its own noise, the same for every model, seed and device.
    Images of different sizes come one by one.

    What is random of an image, its noise and with `binarize` its pixels, is drawn once, on the CPU,
    by a generator seeded by the split's name and the image's index, and kept.
    """

    def __init__(
        self,
        split: Split,
        noise: Corruption,
        name: str,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        binarize: bool = False,
    ):
        self.split, self.noise, self.name, self.batch_size = split, noise, name, batch_size
        self.binarize = binarize
        self.mine = range(rank, len(split), world_size)
        self.clean: Tensor | None = None
        self.corrupted: Tensor | None = None
        self.side: Tensor | None = None

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def corrupt_image(self, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """One image's pixels (1, C, H, W), its corrupted ones, and what is known of that."""
        clean = to_pixels(self.split.images[index][None].cpu())
        if self.binarize:
            clean = binarize_pixels(clean, generator(self.name, "pixels", index))
        return clean, *self.noise(clean, generator(self.name, "noise", index))

    def draw(self) -> None:
        """Make pixels of the whole split and corrupt them, image by image."""
        if type(self.noise) is Corruption and not self.binarize:
            return
        images = [self.corrupt_image(index) for index in range(len(self.split))]
        device = self.split.images.device
        clean, self.corrupted, self.side = (
            None if parts[0] is None else torch.cat(parts).to(device)
            for parts in zip(*images, strict=True)
        )
        self.clean = clean if self.binarize else None  # else the split has it

    def _iterate_images(self) -> Iterator[Batch]:
        """A batch for each image, corrupted when it is asked for."""
        for index in self.mine:
            clean, corrupted, side = self.corrupt_image(index)
            label = self.split.labels[index : index + 1].float()
            yield Batch(clean, corrupted, label, torch.tensor([index]), side)

    def __iter__(self) -> Iterator[Batch]:
        if not self.split.has_one_size:
            yield from self._iterate_images()
            return
        if self.corrupted is None:
            self.draw()
        for start in range(0, len(self.mine), self.batch_size):
            part = self.mine[start : start + self.batch_size]
            index = torch.tensor(part, device=self.split.images.device)
            clean = to_pixels(self.split.images[index]) if self.clean is None else self.clean[index]
            corrupted = clean if self.corrupted is None else self.corrupted[index]
            label = self.split.labels.index_select(0, index).float()
            side = None if self.side is None else self.side[index]
            yield Batch(clean, corrupted, label, index, side)
