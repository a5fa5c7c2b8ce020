"""What `ae_lab.load` returns: a trained model that takes what people have.

The examples are tests; `model` in them is a small variational run on digits, `images` are ten of
them, `photographs` is a U-Net that was trained on small photographs.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator, reseed
from ae_lab.data import Batch, Corruption
from ae_lab.data.corruptions.corruption import is_map
from ae_lab.data.corruptions.filling import fill_smoothly
from ae_lab.inference.inputs import to_images, to_labels, to_photo, to_side
from ae_lab.inference.likelihood import bound_log_likelihood, check_has_likelihood
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable
from ae_lab.inference.photo_files import photo_to_image
from ae_lab.inference.restorer import Restorer
from ae_lab.inference.samplers import Sampler, sampler_by_name
from ae_lab.models import Autoencoder
from ae_lab.models.conditioning import check_told, label_settings


class Model:
    """A trained autoencoder in use; `load` and `train` make it.

    Images are given as tensors, arrays, PIL images or paths (see `inputs.to_images`), and returned
    as float32 tensors (B, C, H, W) with pixels in [0, 1], on the CPU. Labels are numbers or names
    of classes, one for all images or one for each, or numbers (B, K). `network` is the
    LightningModule itself, in evaluation mode on `device`; `batch_size` images go through it at a
    time.

    Raises:
        UserError: there is no such device, or batch_size is not an integer >= 1.
    """

    def __init__(
        self,
        network: Autoencoder,
        path: Path,
        about: dict[str, Any],
        load_data: Callable[[], LoadedRun] | None,
        device: str | torch.device = "cpu",
        batch_size: int = 256,
    ):
        try:
            self.network = network.to(device).eval()
        except (AssertionError, RuntimeError) as error:
            raise UserError(f"device={device} is not there: take device=cpu") from error
        self.path, self.batch_size = path, check_int("batch_size", batch_size)
        self.image_shape, self.num_classes = tuple(about["shape"]), about["classes"]
        self._about, self._load_data = about, load_data

    @property
    def name(self) -> str:
        """What its folder is called."""
        return self.path.resolve().name

    @property
    def code_shape(self) -> tuple[int, ...]:
        """The shape of a code: (latent,), or of maps (latent, h, w)."""
        return tuple(self.network.bottleneck.shape)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """What the classes of the data are called. A run's data are loaded to know it."""
        return tuple(self._about.get("class_names") or self.loaded.data.images.class_names)

    @cached_property
    def loaded(self) -> LoadedRun:
        """The run with its data.

        Raises:
            UserError: this is an exported folder, or the data are missing.
        """
        if self._load_data is None:
            raise UserError(
                f"{self.path} has no training images to fit a sampler on: load the run itself, "
                "or leave out the sampler of a model that has a prior, as model=vae"
            )
        return self._load_data()

    @torch.no_grad()
    def encode(self, images: Any, labels: Any = None, draw: bool = False, seed: int = 0) -> Tensor:
        """The codes (B, *code_shape) of images. Of a stochastic code it is the mean, or a draw.

        >>> model.encode(images).shape, model.encode(images[0]).shape
        (torch.Size([10, 2]), torch.Size([1, 2]))
        >>> bool((model.encode(images, draw=True, seed=1) == model.encode(images)).any())
        False

        Raises:
            UserError: images or labels of another kind than the model takes.
        """
        pixels, values = self._inputs(images, labels, self.network.condition_encoder)
        codes = []
        for part in self._batches(pixels, values, "encode", seed):
            code = self.network.encode(part.corrupted, part.label, draw)[0]
            codes.append((code if code.ndim == 1 + len(self.code_shape) else code[0]).cpu())
        return torch.cat(codes)

    @torch.no_grad()
    def decode(self, codes: Any, labels: Any = None) -> Tensor:
        """The images (n, C, H, W) of codes (n, *code_shape), a tensor, an array or lists.

        >>> model.decode(model.encode(images)).shape
        torch.Size([10, 1, 28, 28])

        Raises:
            UserError: codes of another shape, or a conditional model without labels.
            NotApplicable: the model's images are made of more than their codes.
        """
        if not self.network.decodes_code_alone:
            raise NotApplicable(
                f"{self.path} makes images of more than a code (skip connections, indices, the "
                "corrupted image): take reconstruct"
            )
        codes = torch.as_tensor(codes, dtype=torch.float32)
        if tuple(codes.shape[1:]) != self.code_shape:
            raise UserError(f"codes must be (n, *{self.code_shape}), got {tuple(codes.shape)}")
        values = self._labels(labels, len(codes), self.network.conditional)
        decoded = [
            self.network.decode_images(part.corrupted, part.label).cpu()
            for part in self._batches(codes, values, "decode", 0)
        ]
        return torch.cat(decoded)

    @torch.no_grad()
    def reconstruct(self, images: Any, labels: Any = None, side: Any = None) -> Tensor:
        """What the model makes of images, (B, C, H, W); of corrupted ones it is the clean image.

        `side` is what a run with `model.side=true` is told: a level, or masks, one for all images
        or one for each, white where something is missing; what lies there has no influence.

        >>> model.reconstruct(images).shape
        torch.Size([10, 1, 28, 28])

        Raises:
            UserError: images, labels or a side of another kind than the model takes.
        """
        takes_label = self.network.conditional or self.network.condition_encoder
        pixels, values = self._inputs(images, labels, takes_label)
        check_told(self.network, str(self.path), side)
        told = to_side(side, len(pixels), self.image_shape[1:])
        given = fill_smoothly(pixels, told) if is_map(told) else pixels
        parts = self._batches(given, values, "reconstruct", 0, told)
        return torch.cat([self.network(part, draw=False).reconstruction.cpu() for part in parts])

    @torch.no_grad()
    def generate(
        self,
        n: int = 16,
        label: str | int | None = None,
        sampler: str | Sampler | None = None,
        seed: int = 0,
    ) -> Tensor:
        """n random images (n, C, H, W), of a class where the model is conditional, else of each in
        turn. Codes come from the model's prior, from N(0, I), which is `standard_normal`, or from
        a sampler that is fitted on the codes of the training images: `normal`, `gmm`, `flow`,
        `autoregressive`, or a `Sampler`.

        >>> model.generate(4, seed=1).shape
        torch.Size([4, 1, 28, 28])
        >>> model.generate(4, sampler="normal").shape
        torch.Size([4, 1, 28, 28])

        Raises:
            UserError: there is no such label or sampler, or no training image to fit it on.
            NotApplicable: codes alone do not make the model's images.
        """
        check_int("n", n)
        chosen = sampler_by_name(sampler) if isinstance(sampler, str) else sampler
        if chosen is None and self.network.bottleneck.has_prior and self.network.can_generate:
            turns = torch.arange(n) % self.num_classes if label is None else label
            labels = to_labels(turns, n, self.num_classes, self._names_for(label))
            codes = self.network.bottleneck.sample(
                labels.to(self.network.device), generator(seed, "generate")
            )
        else:
            number = label if label is None else self.loaded.label_number(label)
            codes, labels = self.loaded.sample_codes(n, number, chosen, seed)
        return self.decode(codes.cpu(), labels)

    def restore(
        self,
        photo: Any,
        side: Any = None,
        noise: Corruption | None = None,
        tile: int = 768,
        self_ensemble: bool = False,
    ) -> Image.Image:
        """A photograph of any size, restored as a PIL image, by a model of `body=unet` or
        `cnn_skip`; others take images of their own size alone. It is given as a PIL image, an array
        (H, W) or (H, W, 3) of uint8, or a path. `side` is what a run with `model.side=true` is
        told: a level, or such an image, white where something is missing. A `noise` is added first.
        Memory depends on the `tile`; a `self_ensemble` is better, and takes eight times as long.

        >>> photographs.restore(Image.new("RGB", (75, 50), "teal")).size
        (75, 50)

        Raises:
            UserError: the photo cannot be read, or the model cannot restore it.
        """
        restorer = Restorer(
            self.network,
            str(self.path),
            noise,
            side if side is None or isinstance(side, int | float) else to_photo(side),
            tile,
            self_ensemble=self_ensemble,
        )
        return photo_to_image(restorer.restore(to_photo(photo)).photo)

    @torch.no_grad()
    def log_likelihood(
        self, images: Any, labels: Any = None, samples: int = 500, seed: int = 0
    ) -> Tensor:
        """The importance-weighted bound on log p(x) in nats of each image, (B,), with so many codes
        for each. Source: Burda, Grosse & Salakhutdinov, ICLR 2016.

        >>> bool((model.log_likelihood(images, samples=50) < 0).all())
        True

        Raises:
            UserError: images or labels of another kind than the model takes.
            NotApplicable: the model is not variational.
        """
        check_has_likelihood(self.network, str(self.path))
        pixels, values = self._inputs(images, labels, bool(label_settings(self.network)))
        parts = self._batches(pixels, values, "likelihood", seed)
        samples = check_int("samples", samples)
        return torch.cat([bound_log_likelihood(self.network, p, samples)[1].cpu() for p in parts])

    def _inputs(self, images: Any, labels: Any, takes_label: bool) -> tuple[Tensor, Tensor]:
        pixels = to_images(images, self.image_shape)
        return pixels, self._labels(labels, len(pixels), takes_label)

    def _labels(self, labels: Any, n: int, takes_label: bool) -> Tensor:
        if takes_label and labels is None:
            raise UserError(f"{self.path} is conditional: give labels=..., as labels=7")
        return to_labels(labels, n, self.num_classes, self._names_for(labels))

    def _names_for(self, labels: Any) -> Sequence[str] | None:
        """The classes' names, where labels are given by them."""
        first = labels[0] if isinstance(labels, list | tuple) and labels else labels
        return self.class_names if isinstance(first, str) else None

    def _batches(
        self, values: Tensor, labels: Tensor, purpose: str, seed: int, side: Tensor | None = None
    ) -> Iterator[Batch]:
        """Parts of a batch on the device. What a part draws depends on the seed and its place, and
        leaves no trace in the generators of the caller."""
        device = self.network.device
        kept = torch.random.get_rng_state()
        try:
            for start in range(0, len(values), self.batch_size):
                part = slice(start, start + self.batch_size)
                index = torch.arange(len(values))[part]
                reseed(device, seed, purpose, start)
                on_device = [one[part].to(device) for one in (values, labels)]
                told = side if side is None else side[part].to(device)
                yield Batch(on_device[0], *on_device, index, told)
        finally:
            torch.random.set_rng_state(kept)
