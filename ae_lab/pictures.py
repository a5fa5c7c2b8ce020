"""What `python -m ae_lab.generate picture=...` draws: images made of codes, in rows.

A new picture is a function that takes a restored run and a request, and a file in `conf/picture/`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ae_lab.errors import UserError, real, whole
from ae_lab.restore import Restored
from ae_lab.samplers import Sampler


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


def samples(restored: Restored, request: Request) -> Picture:
    """Random codes through the decoder; see `Restored.draw`."""
    codes, hot = restored.draw(request.n, request.label, request.sampler, request.seed)
    images = restored.decode(codes, hot)
    blank = images.new_ones(-len(images) % request.columns, *images.shape[1:])
    rows = torch.cat([images, blank]).unflatten(0, (-1, request.columns))
    return Picture(rows, codes, hot)


def interpolation(restored: Restored, request: Request) -> Picture:
    """From one test image's code to another's on a straight line, a pair in each row.

    z(t) = (1 - t)·z₀ + t·z₁; a label goes the same way. The outer columns are reconstructions.
    """
    pairs = request.n // request.columns
    out = originals(restored, 2 * pairs)
    t = torch.linspace(0, 1, request.columns)[None, :, None]
    ends = [(part[:pairs, None], part[pairs:, None]) for part in (out.code, out.label)]
    codes, labels = ((1 - t) * start + t * end for start, end in ends)
    return in_rows(restored, codes, labels)


def traversal(restored: Restored, request: Request, span: float = 3.0) -> Picture:
    """One test image's code with one dimension changed in each row, the widest first.

    Over ± `span` standard deviations of the training codes about their mean.

    Raises:
        UserError: span is not above 0.
    """
    span = real("picture.span", span, above=True)
    trained = restored.codes(restored.data.split("train"))
    widest = trained.std(0).argsort(descending=True)[: request.n // request.columns]
    out = originals(restored, 1)
    codes = out.code[:, None].repeat(len(widest), request.columns, 1)
    for row, dimension in enumerate(widest.tolist()):
        middle, scale = trained[:, dimension].mean(), trained[:, dimension].std()
        codes[row, :, dimension] = middle + scale * torch.linspace(-span, span, request.columns)
    return in_rows(restored, codes, out.label.expand(len(widest), request.columns, -1))


def plane(restored: Restored, request: Request, reach: float = 0.02) -> Picture:
    """The plane of a code of two dimensions: decoded where the training codes lie.

    Each axis goes from their quantile `reach` to 1 - `reach`; the second points upwards.

    Raises:
        UserError: the code has not two dimensions, or reach is not below a half; codes alone do
            not make images; a label that the model does not take.
    """
    restored.check_generates()
    reach = real("picture.reach", reach, high=0.49)
    trained = restored.codes(restored.data.split("train"))
    if trained.shape[1] != 2:
        raise UserError(
            f"picture=plane needs a code of 2 dimensions, and {restored.run.path} has "
            f"{trained.shape[1]}: train with latent=2, or take picture=traversal"
        )
    codes = plane_of(trained, max(1, request.n // request.columns), request.columns, reach)
    restored.check_label(request.label)
    hot = restored.hot(torch.full(codes.shape[:2], request.label or 0))
    return in_rows(restored, codes, hot)


def plane_of(codes: Tensor, rows: int, columns: int, reach: float = 0.02) -> Tensor:
    """A grid (rows, columns, 2) over where codes (N, 2) lie, upwards along the second axis."""
    low, high = codes.quantile(torch.tensor([reach, 1 - reach], device=codes.device), dim=0)
    steps = torch.linspace(0, 1, columns), torch.linspace(1, 0, rows)
    along, up = torch.meshgrid(*steps, indexing="xy")
    return low + torch.stack([along, up], dim=2).to(codes.device) * (high - low)


def edit(restored: Restored, request: Request) -> Picture:
    """Test images decoded again under every label, an image in each row, the original first.

    Raises:
        UserError: the model takes no label.
    """
    if not restored.model.conditional:
        raise UserError(f"{restored.run.path} takes no label: train with conditional=true")
    classes = restored.classes
    out = originals(restored, max(1, request.n // classes))
    codes = out.code[:, None].expand(-1, classes, -1)
    labels = torch.eye(classes).expand(len(codes), -1, -1)
    decoded = in_rows(restored, codes, labels)
    return Picture(
        torch.cat([out.clean[:, None], decoded.images], dim=1),
        torch.cat([out.code[:, None], codes], dim=1),
        torch.cat([out.label[:, None], labels], dim=1),
    )


def originals(restored: Restored, n: int):
    """The model's pass over the first n test images.

    Raises:
        UserError: codes alone do not make its images, or n is not one of theirs.
    """
    restored.check_generates()
    available = len(restored.data.split("test"))
    if whole("n", n) > available:
        raise UserError(f"{n} test images are asked for, and there are {available}: give a lower n")
    return restored.show(n)


def in_rows(restored: Restored, codes: Tensor, labels: Tensor) -> Picture:
    """The picture that codes (R, columns, latent) decode to."""
    images = restored.decode(codes.flatten(0, 1), labels.flatten(0, 1))
    return Picture(images.unflatten(0, codes.shape[:2]), codes, labels)
