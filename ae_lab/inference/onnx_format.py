"""Encoder and decoder as ONNX, checked by onnxruntime when they are written."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice
from ae_lab.core.files import replace_atomically
from ae_lab.data import Batch
from ae_lab.inference.graphs import TOLERANCE, Graph, build_graphs, quiet, reconstruct
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable
from ae_lab.training.metrics import psnr

NUM_JUDGED = 200  # test images whose PSNR tells what a precision costs
DENSE = ("MatMul", "Gemm")  # operators whose weights int8 takes


class OnnxFormat:
    """`encoder.onnx`, image → code (of a stochastic code its mean), and `decoder.onnx`, code →
    image, for batches of any size. Labels, and what is known of the corruption, are inputs where
    the model takes them. One file, `autoencoder.onnx`, holds both where the decoder gets more than
    the code.

    Each is compared with the model, by onnxruntime, on test images and random ones. `precision`
    float16 halves the files; int8 takes a quarter for the weights of dense layers and leaves
    others. What either costs in PSNR is said.

    Raises:
        UserError: an unknown precision; the extra `onnx` is not installed.
    """

    def __init__(self, precision: str = "float32"):
        writers = {"float32": write_float32, "float16": write_float16, "int8": write_int8}
        self.precision, self.save = precision, check_choice("format.precision", precision, writers)

    def write(self, loaded: LoadedRun, folder: Path) -> list[str]:
        check_packages()
        graphs, lines = build_graphs(loaded), []
        exact = {graph.name: to_onnx(graph, str(loaded.run.path)) for graph in graphs}
        for graph in graphs:
            error = graph.find_error(Session(exact[graph.name]))
            if not error <= TOLERANCE:
                raise NotApplicable(
                    f"{loaded.run.path}: ONNX's {graph.name} differs from the model by {error:.1e} "
                    f"where {TOLERANCE:g} is allowed: take format=torch_export"
                )
            file = folder / f"{graph.name}.onnx"
            with replace_atomically(file) as beside, quiet():
                self.save(exact[graph.name], beside)
            lines.append(f"{file}: {', '.join(graph.inputs)} → {graph.output}, error {error:.0e}")
        if self.precision != "float32":
            written = {name: (folder / f"{name}.onnx").read_bytes() for name in exact}
            lines.append(self.describe_cost(loaded, graphs, exact, written))
        return lines

    def describe_cost(
        self,
        loaded: LoadedRun,
        graphs: list[Graph],
        exact: dict[str, bytes],
        written: dict[str, bytes],
    ) -> str:
        """PSNR on test images in float32 and as written."""
        batch = loaded.data.eval_batch("test", min(NUM_JUDGED, len(loaded.data.split("test"))))
        before, after = (measure_psnr(graphs, models, batch) for models in (exact, written))
        return f"{self.precision} costs {before - after:.3f} dB: PSNR {before:.2f} → {after:.2f}"


def measure_psnr(graphs: list[Graph], models: dict[str, bytes], batch: Batch) -> float:
    """The mean PSNR in dB of what ONNX models make of a batch."""
    sessions = {name: Session(content) for name, content in models.items()}
    images = reconstruct(graphs, lambda name, inputs: sessions[name](inputs), batch)
    return float(psnr(images, batch.clean).mean())


class Session:
    """A model in onnxruntime on the CPU."""

    def __init__(self, content: bytes):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, inputs: dict[str, Tensor]) -> Tensor:
        arrays = {name: value.numpy() for name, value in inputs.items()}
        return torch.from_numpy(self.session.run(None, arrays)[0])


def to_onnx(graph: Graph, name: str) -> bytes:
    """A graph as an ONNX model, in one file, for batches of any size.

    Raises:
        NotApplicable: it has an operator that torch cannot trace or that ONNX does not have.
    """
    try:
        with quiet():
            program = torch.onnx.export(
                graph.export(),
                input_names=list(graph.inputs),
                output_names=[graph.output],
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the part does that is no graph
        why = " ".join(str(error.__cause__ or error).split())[:160]
        raise NotApplicable(
            f"{name}: its {graph.name} has no ONNX ({why}): take format=safetensors, or see "
            "conf/README.md for the families that have"
        ) from error
    return program.model_proto.SerializeToString()


def write_float32(content: bytes, file: Path) -> None:
    """Write an ONNX model as it is."""
    file.write_bytes(content)


def write_float16(content: bytes, file: Path) -> None:
    """Write it with weights and values in float16; inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True), file)


def write_int8(content: bytes, file: Path) -> None:
    """Write it with the weights of dense layers in int8; values are quantised as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load_from_string(content)
    quantize_dynamic(model, file, op_types_to_quantize=list(DENSE), weight_type=QuantType.QInt8)


def check_packages() -> None:
    """Check that the extra is installed.

    Raises:
        UserError: it is not.
    """
    if missing := [n for n in ("onnx", "onnxscript", "onnxruntime") if find_spec(n) is None]:
        raise UserError(f"{missing[0]} is not installed: pip install 'ae_lab[onnx]'")
