"""An autoencoder as graphs of tensors alone, which runtimes without this package hold."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ae_lab.core.randomness import generator
from ae_lab.data import Batch
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.models import Autoencoder

NUM_TRACED = 3  # images; a batch of one, or none, would be traced as a special case
NUM_CHECKED = 64  # images of the test split, and as many random ones
TOLERANCE = 1e-4  # between a graph and the model, of the largest value where that is above 1


@dataclass(frozen=True)
class Graph:
    """A part of an autoencoder: `module(*inputs.values())` is its output, all inputs but the first
    being variable arguments. They are those of test images and of random ones, by the names that
    the graph has for them."""

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    output: str

    @torch.no_grad()
    def expected(self) -> Tensor:
        """What the model makes of the inputs."""
        return self.module(*self.inputs.values())

    def export(self) -> torch.export.ExportedProgram:
        """The graph for batches of any size."""
        # Copies: a file of torch's holds them, with all that a view looks at.
        few = tuple(value[:NUM_TRACED].clone() for value in self.inputs.values())
        first, *others = [{0: torch.export.Dim("batch")}] * len(few)
        shapes = (first, tuple(others)) if others else (first,)  # as forward has its arguments
        with quiet():
            return torch.export.export(self.module, few, dynamic_shapes=shapes)

    def find_error(self, run: Callable[[dict[str, Tensor]], Tensor]) -> float:
        """The largest difference of what `run` makes of the inputs, also of a single one, relative
        to the largest value where that is above 1."""
        expected = self.expected()
        first = run({name: value[:1] for name, value in self.inputs.items()})
        all_at_once = run(self.inputs)
        error = max((all_at_once - expected).abs().max(), (first - expected[:1]).abs().max())
        return float(error / expected.abs().max().clamp(min=1))


class EncoderGraph(nn.Module):
    """Image, and what else it `takes`, → code; of a stochastic code its mean."""

    def __init__(self, model: Autoencoder, classes: int, takes: Sequence[str]):
        super().__init__()
        self.parts = nn.ModuleList([model.encoder, model.bottleneck])
        self.model = (model,)  # where torch finds no more weights than the graph needs
        self.classes, self.takes = classes, tuple(takes)

    def read(self, image: Tensor, others: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """The label, zeros where none is taken, and the side."""
        known = dict(zip(self.takes, others, strict=True))
        return known.get("label", image.new_zeros(image.shape[0], self.classes)), known.get("side")

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        label, side = self.read(image, others)
        return self.model[0].encode(image, label, side=side)[0]


class DecoderGraph(nn.Module):
    """Code, and label if `conditional`, → image."""

    def __init__(self, model: Autoencoder, classes: int):
        super().__init__()
        self.decoder, self.model, self.classes = model.decoder, (model,), classes

    def forward(self, code: Tensor, *others: Tensor) -> Tensor:
        [label] = others or [code.new_zeros(code.shape[0], self.classes)]
        return self.model[0].decode_images(code, label)


class AutoencoderGraph(EncoderGraph):
    """Image, and what else it `takes`, → reconstruction."""

    def __init__(self, model: Autoencoder, classes: int, takes: Sequence[str]):
        super().__init__(model, classes, takes)
        self.decoder = model.decoder

    def forward(self, image: Tensor, *others: Tensor) -> Tensor:
        label, side = self.read(image, others)
        model = self.model[0]
        code, _, bypass = model.encode(image, label, side=side)
        return model.output(model.decode(code, label, bypass), image, side)


def build_graphs(loaded: LoadedRun) -> list[Graph]:
    """The encoder and the decoder; both in one where the decoder gets more than the code."""
    model, classes = loaded.model, loaded.num_classes
    batch = loaded.data.eval_batch("test", min(NUM_CHECKED, len(loaded.data.split("test"))))
    rng = generator("graphs")
    images = torch.cat([batch.corrupted, torch.rand(batch.clean.shape, generator=rng)])
    label = {"label": torch.cat([batch.label, batch.label])}
    others = {"side": torch.cat([batch.side, batch.side])} if model.side else {}
    in_one = not model.decodes_code_alone
    if model.condition_encoder or (in_one and model.conditional):
        others |= label
    inputs = {"image": images, **others}
    if in_one:
        module = AutoencoderGraph(model, classes, takes=[*others])
        return [Graph("autoencoder", module, inputs, "reconstruction")]
    encoder = Graph("encoder", EncoderGraph(model, classes, takes=[*others]), inputs, "code")
    inputs = {"code": encoder.expected(), **(label if model.conditional else {})}
    return [encoder, Graph("decoder", DecoderGraph(model, classes), inputs, "image")]


def reconstruct(
    graphs: list[Graph], run: Callable[[str, dict[str, Tensor]], Tensor], batch: Batch
) -> Tensor:
    """Images through one graph after the other; `run(name, inputs)` is the output of one."""
    values = batch.corrupted
    for graph in graphs:
        first, *rest = graph.inputs
        values = run(graph.name, {first: values, **{name: getattr(batch, name) for name in rest}})
    return values


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings and reports of torch's exporters and onnxruntime: of a part that cannot
    be traced torch prints pages."""
    before, nowhere = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
