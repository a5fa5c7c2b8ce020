"""What `python -m ae_lab.generate figure=...` draws: images made of codes, in rows.

A figure is a function `figure(loaded, request) -> LatentFigure`. A new one is such a function and
a file in `conf/figure/`, or in the folder `figure/` of a `hydra.searchpath`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable
from ae_lab.inference.samplers import Prior, Sampler
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.latent_grid import latent_grid


@dataclass(frozen=True)
class FigureRequest:
    """How many images in how many columns, of which label, with which sampler and seed.

    `label` is a column of the labels; `LoadedRun.label_number` knows the one of a class's name.
    """

    n: int
    columns: int
    label: int | None
    sampler: Sampler | Prior | None
    seed: int

    @property
    def num_rows(self) -> int:
        """Whole rows of so many columns that n images make; one where they are fewer."""
        return max(1, self.n // self.columns)


@dataclass(frozen=True)
class LatentFigure:
    """Images (rows, columns, C, H, W); the codes and labels they were decoded from, one each.

    Where an image was not decoded but is an original, its code is that of the original.
    """

    images: Tensor
    codes: Tensor
    labels: Tensor


def draw_samples(loaded: LoadedRun, request: FigureRequest) -> LatentFigure:
    """Random codes through the decoder; see `LoadedRun.sample_codes`."""
    codes, labels = loaded.sample_codes(request.n, request.label, request.sampler, request.seed)
    images = loaded.decode(codes, labels)
    blank = images.new_ones(-len(images) % request.columns, *images.shape[1:])
    rows = torch.cat([images, blank]).unflatten(0, (-1, request.columns))
    return LatentFigure(rows, codes, labels)


def draw_interpolation(loaded: LoadedRun, request: FigureRequest) -> LatentFigure:
    """From one test image's code to another's on a straight line, a pair in each row.

    z(t) = (1 - t)·z₀ + t·z₁; labels are interpolated too. The outer columns are reconstructions.

    Raises:
        UserError: fewer test images than n asks for.
        NotApplicable: codes alone do not make images.
    """
    pairs = request.num_rows
    output = encode_test_images(loaded, 2 * pairs)
    t = torch.linspace(0, 1, request.columns)[None, :, None]
    ends = [(part[:pairs, None], part[pairs:, None]) for part in (output.code, output.label)]
    codes, labels = ((1 - t) * start + t * end for start, end in ends)
    return decode_rows(loaded, codes, labels)


def draw_traversal(loaded: LoadedRun, request: FigureRequest, num_std: float = 3.0) -> LatentFigure:
    """One test image's code with one dimension changed in each row, that of the largest standard
    deviation first.

    Over ± `num_std` standard deviations of the training codes about their mean.

    Raises:
        UserError: num_std is not above 0.
        NotApplicable: codes alone do not make images.
    """
    num_std = check_float("figure.num_std", num_std, exclusive=True)
    loaded.check_can_generate()
    trained = loaded.encode_split(loaded.data.split("train"))
    widest = trained.std(0).argsort(descending=True)[: request.num_rows]
    output = encode_test_images(loaded, 1)
    codes = output.code[:, None].repeat(len(widest), request.columns, 1)
    for row, dimension in enumerate(widest.tolist()):
        mean, std = trained[:, dimension].mean(), trained[:, dimension].std()
        codes[row, :, dimension] = mean + std * torch.linspace(-num_std, num_std, request.columns)
    return decode_rows(loaded, codes, output.label.expand(len(widest), request.columns, -1))


def draw_latent_grid(
    loaded: LoadedRun, request: FigureRequest, quantile: float = 0.02
) -> LatentFigure:
    """A grid of codes of two dimensions, decoded, over where the training codes lie.

    Each axis goes from their quantile `quantile` to 1 - `quantile`; the second points upwards.

    Raises:
        UserError: quantile is not below 0.5.
        NotApplicable: the code has not two dimensions, or does not make images alone.
    """
    loaded.check_can_generate()
    quantile = check_float("figure.quantile", quantile, high=0.49)
    if loaded.model.bottleneck.shape != (2,):
        raise NotApplicable(
            f"figure=latent_grid needs a code of 2 dimensions, and {loaded.run.path} has "
            f"{loaded.model.bottleneck.shape[0]}: train with latent=2, or take figure=traversal"
        )
    trained = loaded.encode_split(loaded.data.split("train"))
    codes = latent_grid(trained, request.num_rows, request.columns, quantile)
    labels = loaded.one_hot(torch.full(codes.shape[:2], request.label or 0))
    return decode_rows(loaded, codes, labels)


def draw_label_swap(loaded: LoadedRun, request: FigureRequest) -> LatentFigure:
    """Test images decoded again under every label, an image in each row, the original first.

    Raises:
        NotApplicable: the model takes no label, or codes alone do not make images.
    """
    if not loaded.model.conditional:
        raise NotApplicable(f"{loaded.run.path} takes no label: train with conditional=true")
    num_classes = loaded.num_classes
    output = encode_test_images(loaded, max(1, request.n // num_classes))
    codes = output.code[:, None].expand(-1, num_classes, -1)
    labels = torch.eye(num_classes).expand(len(codes), -1, -1)
    decoded = decode_rows(loaded, codes, labels)
    return LatentFigure(
        torch.cat([output.clean[:, None], decoded.images], dim=1),
        torch.cat([output.code[:, None], codes], dim=1),
        torch.cat([output.label[:, None], labels], dim=1),
    )


def encode_test_images(loaded: LoadedRun, n: int) -> AutoencoderOutput:
    """The model's output for the first n test images.

    Raises:
        UserError: there are fewer.
        NotApplicable: codes alone do not make images.
    """
    loaded.check_can_generate()
    available = len(loaded.data.split("test"))
    if check_int("n", n) > available:
        raise UserError(f"the figure needs {n} test images and there are {available}: lower n")
    return loaded.predict(n)


def decode_rows(loaded: LoadedRun, codes: Tensor, labels: Tensor) -> LatentFigure:
    """The figure that codes (rows, columns, latent) decode to."""
    images = loaded.decode(codes.flatten(0, 1), labels.flatten(0, 1))
    return LatentFigure(images.unflatten(0, codes.shape[:2]), codes, labels)
