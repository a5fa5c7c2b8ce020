"""What `python -m ae_lab.generate picture=...` draws: images made of codes, in rows.

A new picture is a function that takes a loaded run and a request, and a file in `conf/picture/`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.inference.samplers import Sampler


@dataclass(frozen=True)
class Request:
    """How many images in how many columns, of which label, with which chance."""

    n: int
    columns: int
    label: int | None
    sampler: Sampler | None
    seed: int


@dataclass(frozen=True)
class Picture:
    """Images (rows, columns, C, H, W); the codes and labels they were decoded from, one each.

    Where an image was not decoded but is an original, its code is that of the original.
    """

    images: Tensor
    codes: Tensor
    labels: Tensor


def samples(loaded: LoadedRun, request: Request) -> Picture:
    """Random codes through the decoder; see `LoadedRun.draw`."""
    codes, hot = loaded.draw(request.n, request.label, request.sampler, request.seed)
    images = loaded.decode(codes, hot)
    blank = images.new_ones(-len(images) % request.columns, *images.shape[1:])
    rows = torch.cat([images, blank]).unflatten(0, (-1, request.columns))
    return Picture(rows, codes, hot)


def interpolation(loaded: LoadedRun, request: Request) -> Picture:
    """From one test image's code to another's on a straight line, a pair in each row.

    z(t) = (1 - t)·z₀ + t·z₁; a label goes the same way. The outer columns are reconstructions.
    """
    pairs = request.n // request.columns
    out = originals(loaded, 2 * pairs)
    t = torch.linspace(0, 1, request.columns)[None, :, None]
    ends = [(part[:pairs, None], part[pairs:, None]) for part in (out.code, out.label)]
    codes, labels = ((1 - t) * start + t * end for start, end in ends)
    return in_rows(loaded, codes, labels)


def traversal(loaded: LoadedRun, request: Request, span: float = 3.0) -> Picture:
    """One test image's code with one dimension changed in each row, the widest first.

    Over ± `span` standard deviations of the training codes about their mean.

    Raises:
        UserError: span is not above 0.
    """
    span = check_float("picture.span", span, exclusive=True)
    trained = loaded.codes(loaded.data.split("train"))
    widest = trained.std(0).argsort(descending=True)[: request.n // request.columns]
    out = originals(loaded, 1)
    codes = out.code[:, None].repeat(len(widest), request.columns, 1)
    for row, dimension in enumerate(widest.tolist()):
        middle, scale = trained[:, dimension].mean(), trained[:, dimension].std()
        codes[row, :, dimension] = middle + scale * torch.linspace(-span, span, request.columns)
    return in_rows(loaded, codes, out.label.expand(len(widest), request.columns, -1))


def plane(loaded: LoadedRun, request: Request, reach: float = 0.02) -> Picture:
    """The plane of a code of two dimensions: decoded where the training codes lie.

    Each axis goes from their quantile `reach` to 1 - `reach`; the second points upwards.

    Raises:
        UserError: the code has not two dimensions, or reach is not below a half; codes alone do
            not make images; a label that the model does not take.
    """
    loaded.check_generates()
    reach = check_float("picture.reach", reach, high=0.49)
    trained = loaded.codes(loaded.data.split("train"))
    if trained.shape[1] != 2:
        raise UserError(
            f"picture=plane needs a code of 2 dimensions, and {loaded.run.path} has "
            f"{trained.shape[1]}: train with latent=2, or take picture=traversal"
        )
    codes = plane_of(trained, max(1, request.n // request.columns), request.columns, reach)
    loaded.check_label(request.label)
    hot = loaded.hot(torch.full(codes.shape[:2], request.label or 0))
    return in_rows(loaded, codes, hot)


def plane_of(codes: Tensor, rows: int, columns: int, reach: float = 0.02) -> Tensor:
    """A grid (rows, columns, 2) over where codes (N, 2) lie, upwards along the second axis."""
    low, high = codes.quantile(torch.tensor([reach, 1 - reach], device=codes.device), dim=0)
    steps = torch.linspace(0, 1, columns), torch.linspace(1, 0, rows)
    along, up = torch.meshgrid(*steps, indexing="xy")
    return low + torch.stack([along, up], dim=2).to(codes.device) * (high - low)


def edit(loaded: LoadedRun, request: Request) -> Picture:
    """Test images decoded again under every label, an image in each row, the original first.

    Raises:
        UserError: the model takes no label.
    """
    if not loaded.model.conditional:
        raise UserError(f"{loaded.run.path} takes no label: train with conditional=true")
    classes = loaded.classes
    out = originals(loaded, max(1, request.n // classes))
    codes = out.code[:, None].expand(-1, classes, -1)
    labels = torch.eye(classes).expand(len(codes), -1, -1)
    decoded = in_rows(loaded, codes, labels)
    return Picture(
        torch.cat([out.clean[:, None], decoded.images], dim=1),
        torch.cat([out.code[:, None], codes], dim=1),
        torch.cat([out.label[:, None], labels], dim=1),
    )


def originals(loaded: LoadedRun, n: int):
    """The model's pass over the first n test images.

    Raises:
        UserError: codes alone do not make its images, or n is not one of theirs.
    """
    loaded.check_generates()
    available = len(loaded.data.split("test"))
    if check_int("n", n) > available:
        raise UserError(f"{n} test images are asked for, and there are {available}: give a lower n")
    return loaded.show(n)


def in_rows(loaded: LoadedRun, codes: Tensor, labels: Tensor) -> Picture:
    """The picture that codes (R, columns, latent) decode to."""
    images = loaded.decode(codes.flatten(0, 1), labels.flatten(0, 1))
    return Picture(images.unflatten(0, codes.shape[:2]), codes, labels)
