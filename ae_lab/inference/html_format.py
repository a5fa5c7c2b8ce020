"""A page to explore a plane of codes in: one HTML file that opens from the disk."""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor, nn

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.files import write_text
from ae_lab.core.images import tile_rows, to_address, to_picture
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable
from ae_lab.models.latent_grid import latent_grid
from ae_lab.models.networks import layers

KINDS = {
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.LeakyReLU: "leaky_relu",
}
OUTPUTS = {layers.sigmoid: "sigmoid", layers.tanh: "tanh_pixels", layers.linear_output: "linear"}
ATLAS_SIDE, MOST_ATLASES = 24, 10  # images a side of an atlas; classes that have one
MARGIN = 0.1  # of the plane beyond the outermost test codes that are drawn


class HtmlFormat:
    """`explorer.html`: test codes coloured by class, and the image of the code under the pointer.

    A code of two dimensions is the plane itself. Of others it is the plane through the mean of the
    test codes along `directions`, two of their dimensions, or along the two main ones. Dense
    decoders run in the page, their weights in float16; of others it has an atlas of images.

    Raises:
        UserError: directions are not two different dimensions, n is not an integer >= 2.
    """

    def __init__(self, directions: Sequence[int] | None = None, n: int = 1000):
        self.n = check_int("format.n", n, minimum=2)
        self.directions = None if directions is None else list(directions)
        if self.directions is not None and (
            len(self.directions) != 2 or self.directions[0] == self.directions[1]
        ):
            raise UserError(
                f"format.directions must be two dimensions of the code, got {self.directions}"
            )

    def write(self, loaded: LoadedRun, folder: Path) -> list[str]:
        file = folder / "explorer.html"
        write_text(file, self.render(loaded))
        return [f"{file}: {file.stat().st_size / 1e6:.1f} MB"]

    def render(self, loaded: LoadedRun) -> str:
        """The page of a run, as HTML."""
        loaded.check_can_generate()
        environment = Environment(
            loader=FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=StrictUndefined,
        )
        page = self.describe_page(loaded)
        return environment.get_template("explorer.html").render(title=loaded.run.name, page=page)

    def describe_page(self, loaded: LoadedRun) -> dict:
        """All that the page knows, as JSON has it."""
        split = loaded.data.split("test").first(self.n)
        codes = loaded.encode_split(split)
        origin, axes = choose_plane(codes, self.directions)
        places = (codes - origin) @ axes.T
        decoder = describe_decoder(loaded)
        has_classes = bool(split.labels.any())
        return {
            "shape": list(loaded.data.shape),
            "origin": origin.tolist(),
            "axes": axes.tolist(),
            "places": places.round(decimals=4).tolist(),
            "classes": split.labels.argmax(1).tolist() if has_classes else None,
            "names": list(loaded.data.images.class_names) if has_classes else [],
            "conditional": loaded.model.conditional,
            "decoder": decoder,
            "atlas": None if decoder else draw_atlas(loaded, places, origin, axes),
        }


def choose_plane(codes: Tensor, directions: list[int] | None) -> tuple[Tensor, Tensor]:
    """A point (latent,) and two directions (2, latent) of unit length that span a plane of codes
    (N, latent): the dimensions named, the code's own two, or the two of largest variance.

    Raises:
        UserError: the code does not have these dimensions.
        NotApplicable: it has one dimension alone.
    """
    latent = codes.shape[1]
    if latent < 2:
        raise NotApplicable("a code of one dimension has no plane: take figure=traversal")
    if directions is not None:
        if not all(0 <= one < latent for one in directions):
            raise UserError(f"format.directions={directions} must lie in 0 ... {latent - 1}")
        return codes.mean(0), torch.eye(latent)[directions]
    if latent == 2:
        return torch.zeros(2), torch.eye(2)
    mean = codes.mean(0)
    _, _, axes = torch.linalg.svd(codes - mean, full_matrices=False)
    return mean, axes[:2]


def describe_decoder(loaded: LoadedRun) -> dict | None:
    """The layers of a dense decoder, one after the other, None where it is of other layers."""
    model = loaded.model
    blocks = getattr(model.decoder, "blocks", None)
    if blocks is None or model.output not in OUTPUTS:
        return None
    described = []
    for block in blocks():
        for layer in block if isinstance(block, nn.Sequential) else [block]:
            if (one := describe_layer(layer)) is None:
                return None
            described.append(one)
    return {"layers": described, "output": OUTPUTS[model.output]}


def describe_layer(layer: nn.Module) -> dict | None:
    """A layer by its kind and its weights in float16, None if the page does not know it."""
    if isinstance(layer, nn.Linear):
        return {"kind": "linear", "weight": encode(layer.weight), "bias": encode(layer.bias)}
    if isinstance(layer, nn.BatchNorm1d):  # by its running means: a scale and a shift
        scale = layer.weight / (layer.running_var + layer.eps).sqrt()
        shift = layer.bias - layer.running_mean * scale
        return {"kind": "affine", "weight": encode(scale), "bias": encode(shift)}
    if isinstance(layer, nn.LayerNorm):
        weights = {"weight": encode(layer.weight), "bias": encode(layer.bias)}
        return {"kind": "layer_norm", **weights, "eps": layer.eps}
    kind = KINDS.get(type(layer))
    return kind and {"kind": kind}


def encode(values: Tensor) -> str:
    """Numbers in float16, little-endian, as base64."""
    array = values.detach().cpu().numpy().astype(np.dtype("<f2"))
    return base64.b64encode(array.tobytes()).decode()


def draw_atlas(loaded: LoadedRun, places: Tensor, origin: Tensor, axes: Tensor) -> dict:
    """Images of a grid of codes over the plane, a sheet for each class of a conditional model."""
    low, high = places.min(0).values, places.max(0).values
    margin = MARGIN * (high - low)
    low, high = low - margin, high + margin
    grid = latent_grid(torch.stack([low, high]), ATLAS_SIDE, ATLAS_SIDE, quantile=0.0)
    codes = origin + grid.flatten(0, 1) @ axes
    numbers = range(min(loaded.num_classes, MOST_ATLASES)) if loaded.model.conditional else [0]
    sheets = []
    for number in numbers:
        labels = loaded.one_hot(torch.full((len(codes),), number))
        images = loaded.decode(codes, labels).unflatten(0, (ATLAS_SIDE, ATLAS_SIDE))
        sheets.append(to_address(to_picture(tile_rows(*images)), "webp", quality=85))
    return {"side": ATLAS_SIDE, "low": low.tolist(), "high": high.tolist(), "sheets": sheets}
