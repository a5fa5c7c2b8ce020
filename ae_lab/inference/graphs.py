"""An autoencoder as graphs of tensors alone, which runtimes without this package hold."""

import io
import logging
import warnings
from collections.abc import Callable, Iterator
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
    """A part of an autoencoder: `module(*inputs.values())` is its output. The inputs are those of
    test images and of random ones, by the names that the graph has for them."""

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
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in few)
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
    """Image, and label if `condition_encoder`, → code; of a stochastic code its mean."""

    def __init__(self, model: Autoencoder, classes: int):
        super().__init__()
        self.parts = nn.ModuleList([model.encoder, model.bottleneck])
        self.model = (model,)  # where torch finds no more weights than the graph needs
        self.classes = classes

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        label = image.new_zeros(image.shape[0], self.classes) if label is None else label
        return self.model[0].encode(image, label)[0]


class DecoderGraph(nn.Module):
    """Code, and label if `conditional`, → image."""

    def __init__(self, model: Autoencoder, classes: int):
        super().__init__()
        self.decoder, self.model, self.classes = model.decoder, (model,), classes

    def forward(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        label = code.new_zeros(code.shape[0], self.classes) if label is None else label
        return self.model[0].decode_images(code, label)


class AutoencoderGraph(EncoderGraph):
    """Image, and label if the model takes any, → reconstruction."""

    def __init__(self, model: Autoencoder, classes: int):
        super().__init__(model, classes)
        self.decoder = model.decoder

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        label = image.new_zeros(image.shape[0], self.classes) if label is None else label
        model = self.model[0]
        code, _, bypass = model.encode(image, label)
        return model.output(model.decode(code, label, bypass), image)


def build_graphs(loaded: LoadedRun) -> list[Graph]:
    """The encoder and the decoder; both in one where the decoder gets more than the code."""
    model, classes = loaded.model, loaded.num_classes
    batch = loaded.data.eval_batch("test", min(NUM_CHECKED, len(loaded.data.split("test"))))
    rng = generator("graphs")
    images = torch.cat([batch.corrupted, torch.rand(batch.clean.shape, generator=rng)])
    labels = torch.cat([batch.label, batch.label])

    def with_label(name: str, values: Tensor, takes_label: bool) -> dict[str, Tensor]:
        return {name: values, **({"label": labels} if takes_label else {})}

    if not model.decodes_code_alone:
        module = AutoencoderGraph(model, classes)
        takes_label = model.conditional or model.condition_encoder
        inputs = with_label("image", images, takes_label)
        return [Graph("autoencoder", module, inputs, "reconstruction")]
    inputs = with_label("image", images, model.condition_encoder)
    encoder = Graph("encoder", EncoderGraph(model, classes), inputs, "code")
    inputs = with_label("code", encoder.expected(), model.conditional)
    return [encoder, Graph("decoder", DecoderGraph(model, classes), inputs, "image")]


def reconstruct(
    graphs: list[Graph], run: Callable[[str, dict[str, Tensor]], Tensor], batch: Batch
) -> Tensor:
    """Images through one graph after the other; `run(name, inputs)` is the output of one."""
    values = batch.corrupted
    for graph in graphs:
        first, *rest = graph.inputs
        values = run(graph.name, {first: values, **dict.fromkeys(rest, batch.label)})
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
