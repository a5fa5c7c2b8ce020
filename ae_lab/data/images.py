"""Images with their labels: a batch of them, a split, a whole data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice

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
            UserError: there is no such class, nothing is left without it, or its images may be of
                different sizes.
        """
        if class_name is None:
            return self
        self.train.check_one_size()
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
