"""Images on the device: a batch is an index, a conversion and a noise, whole batches at a time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ae_lab.core.errors import UserError
from ae_lab.core.randomness import derive, generator
from ae_lab.data.corruptions import Corruption

SPLITS = ("train", "val", "test")


class Batch(NamedTuple):
    """What the model gets. Pixels are float32 in [0, 1], labels float32."""

    clean: Tensor  # (B, C, H, W)
    corrupted: Tensor  # (B, C, H, W), what the encoder is given
    label: Tensor  # (B, K), one-hot or multi-hot
    index: Tensor  # (B,), the image's place in its split

    def part(self, chosen: slice) -> "Batch":
        """Some of its images, in their order."""
        return Batch(*(values[chosen] for values in self))


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, H, W) and labels uint8 (N, K)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    @property
    def has_single_labels(self) -> bool:
        """Whether each image has exactly one label."""
        return bool((self.labels.sum(1) == 1).all())

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

    def factor_levels(self, split: Split) -> Tensor:
        """The level of each factor of variation, int64 (N, F), read from the labels."""
        blocks = split.labels.split(list(self.factors.values()), dim=1)
        return torch.stack([block.argmax(1) for block in blocks], 1)


def to_pixels(images: Tensor) -> Tensor:
    """uint8 0..255 → float32 0..1."""
    return images / 255


def binarize_pixels(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel 1 with the probability that is its gray level, else 0."""
    return torch.bernoulli(clean, generator=generator)


def shift_images(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Images (B, C, H, W), each moved by up to `max_shift` pixels along an axis; zeros move in."""
    count, _, height, width = images.shape
    device = images.device
    down, right = torch.randint(
        2 * max_shift + 1, (2, count, 1), generator=generator, device=device
    ).unbind()
    rows = torch.arange(height, device=device) + down
    columns = torch.arange(width, device=device) + right
    wide = torch.nn.functional.pad(images, [max_shift] * 4).permute(0, 2, 3, 1)
    image = torch.arange(count, device=device)[:, None, None]
    return wide[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip_images(images: Tensor, generator: torch.Generator) -> Tensor:
    """About half of the images (B, C, H, W) mirrored left to right."""
    u = torch.rand(len(images), 1, 1, 1, generator=generator, device=images.device)
    return torch.where(u < 0.5, images.flip(3), images)


class TrainLoader:
    """Shuffled batches with fresh noise, in an order that is a function of (seed, epoch) alone.

    `random_shift` moves each image by up to so many pixels, anew each time it is shown;
    `random_flip` mirrors half of them left to right; with `binarize` pixels are drawn, anew too.

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
        self.random_shift, self.random_flip, self.binarize = random_shift, random_flip, binarize
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
            clean = to_pixels(images)
            if self.binarize:
                clean = binarize_pixels(clean, self.generator)
            corrupted = self.noise(clean, self.generator)
            yield Batch(clean, corrupted, self.split.labels.index_select(0, index).float(), index)


class EvalLoader:
    """Batches in order, each image with its own noise, the same for every model, seed and device.

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

    def __len__(self) -> int:
        return -(-len(self.mine) // self.batch_size)

    def draw(self) -> None:
        """Make pixels of the whole split and corrupt them, image by image."""
        if type(self.noise) is Corruption and not self.binarize:
            return
        rng = torch.Generator()
        images = []
        for index in range(len(self.split)):
            clean = to_pixels(self.split.images[index : index + 1].cpu())
            if self.binarize:
                rng.manual_seed(derive(self.name, "pixels", index))
                clean = binarize_pixels(clean, rng)
            rng.manual_seed(derive(self.name, "noise", index))
            images.append((clean, self.noise(clean, rng)))
        device = self.split.images.device
        clean, self.corrupted = (torch.cat(parts).to(device) for parts in zip(*images, strict=True))
        self.clean = clean if self.binarize else None  # else the split has it

    def __iter__(self) -> Iterator[Batch]:
        if self.corrupted is None:
            self.draw()
        for start in range(0, len(self.mine), self.batch_size):
            part = self.mine[start : start + self.batch_size]
            index = torch.tensor(part, device=self.split.images.device)
            clean = to_pixels(self.split.images[index]) if self.clean is None else self.clean[index]
            corrupted = clean if self.corrupted is None else self.corrupted[index]
            yield Batch(clean, corrupted, self.split.labels.index_select(0, index).float(), index)
