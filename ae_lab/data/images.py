"""Images on the device: a batch is an index, a conversion and a noise, whole batches at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice
from ae_lab.core.randomness import derive, generator
from ae_lab.data.augmentation import binarize_pixels, flip_images, shift_images, turn_images
from ae_lab.data.corruptions import Corruption

SPLITS = ("train", "val", "test")


class Batch(NamedTuple):
    """What the model gets. Pixels are float32 in [0, 1], labels float32."""

    clean: Tensor  # (B, C, H, W)
    corrupted: Tensor  # (B, C, H, W), what the encoder is given
    label: Tensor  # (B, K), one-hot or multi-hot
    index: Tensor  # (B,), the image's place in its split
    side: Tensor | None = None  # (B, 1, H, W) or (B, 1, 1, 1), what is known of the corruption

    def part(self, chosen: slice) -> "Batch":
        """Some of its images, in their order."""
        return Batch(*(values if values is None else values[chosen] for values in self))


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, H, W) and labels uint8 (N, K).

    Images of different sizes, for evaluation alone, are a sequence of tensors (C, H, W) instead.
    """

    images: Tensor | Sequence[Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def has_one_size(self) -> bool:
        """Whether all images are of the same size, by their kind."""
        return isinstance(self.images, Tensor)

    @property
    def shape(self) -> list[int | None]:
        """(C, H, W) of its images; H and W are None where they differ."""
        if self.has_one_size:
            return list(self.images.shape[1:])
        return [len(self.images[0]), None, None]

    def check_one_size(self) -> None:
        """Check that its images can be in one batch.

        Raises:
            UserError: they may be of different sizes.
        """
        if not self.has_one_size:
            raise UserError(
                "data.source.crop=none gives images of different sizes, which are for "
                "evaluator=reconstruction and denoisers: take data.source.crop=square or patches"
            )

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    @property
    def has_single_labels(self) -> bool:
        """Whether each image has exactly one label."""
        return bool((self.labels.sum(1) == 1).all())

    def without_class(self, column: int) -> "Split":
        """Its images that do not have a label."""
        others = self.labels[:, column] == 0
        return Split(self.images[others], self.labels[others])

    def first(self, n: int | None) -> "Split":
        return self if n is None else Split(self.images[:n], self.labels[:n])


@dataclass(frozen=True)
class ImageSet:
    """A data set with its three splits; tables and figures call it by its title.

    `class_names` are what a person calls the columns of the labels, their numbers unless given.
    `fingerprint` stands for what the splits hold, so that a run is known by its data, not by a
    path. It is computed unless it is given, as sets too large to be read at each start do.
    `factors` are the factors of variation, where they are known, and their numbers of levels. The
    labels are then one-hot of each, beside each other in this order. `files` are the files that it
    depends on, there or not, if it says which: while they and the code are as they were, so is it.
    """

    name: str
    title: str
    train: Split
    val: Split
    test: Split
    fingerprint: str = field(default="", compare=False)
    class_names: tuple[str, ...] = ()
    factors: Mapping[str, int] = field(default_factory=dict)
    files: tuple[Path, ...] | None = field(default=None, compare=False)
    given: bool = field(default=False, init=False, compare=False)  # the fingerprint was

    def __post_init__(self):
        numbers = map(str, range(self.train.labels.shape[1]))
        object.__setattr__(self, "class_names", self.class_names or tuple(numbers))
        object.__setattr__(self, "given", bool(self.fingerprint))
        if self.given:
            return
        digest = blake2b(digest_size=8)
        for name in SPLITS:
            for part in fields(Split):
                values = getattr(getattr(self, name), part.name)
                digest.update(str(tuple(values.shape)).encode())
                digest.update(values.contiguous().numpy())
        object.__setattr__(self, "fingerprint", digest.hexdigest())

    @property
    def has_labels(self) -> bool:
        """Whether any training image has a label: where there are none, all are zero."""
        return bool(self.train.labels.any())

    def limit(self, n: int | None) -> "ImageSet":
        """At most the first n images of each split."""
        if n is None or n >= max(len(getattr(self, name)) for name in SPLITS):
            return self
        splits = (getattr(self, name).first(n) for name in SPLITS)
        digest = blake2b(f"{self.fingerprint}, first {n}".encode(), digest_size=8).hexdigest()
        title = f"{self.title}, first {n:,} of each split"
        fingerprint = digest if self.given else ""
        about = (fingerprint, self.class_names, self.factors, self.files)
        return ImageSet(self.name, title, *splits, *about)

    def exclude(self, class_name: str | None) -> "ImageSet":
        """Without the images of a class in training and validation; the test keeps all.

        Raises:
            UserError: there is no such class, or nothing is left without it.
        """
        if class_name is None:
            return self
        if not self.has_labels:
            raise UserError(f"data.exclude={class_name} is for labelled data: {self.title} is not")
        names = {name: column for column, name in enumerate(self.class_names)}
        column = check_choice("data.exclude", class_name, names)
        train, val = (split.without_class(column) for split in (self.train, self.val))
        if not (len(train) and len(val)):
            raise UserError(f"without data.exclude={class_name} there is nothing to learn from")
        content = f"{self.fingerprint}, without {class_name}"
        digest = blake2b(content.encode(), digest_size=8).hexdigest()
        title = f"{self.title}, trained without {class_name}"
        about = (digest, self.class_names, self.factors)
        return ImageSet(self.name, title, train, val, self.test, *about)

    def factor_levels(self, split: Split) -> Tensor:
        """The level of each factor of variation, int64 (N, F), read from the labels."""
        blocks = split.labels.split(list(self.factors.values()), dim=1)
        return torch.stack([block.argmax(1) for block in blocks], 1)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 0..255 → float32 0..1."""
    return images / 255


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
