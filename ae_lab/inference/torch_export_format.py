"""Encoder and decoder as graphs of torch's own, which run without this package."""

from pathlib import Path

import torch

from ae_lab.core.files import replace_atomically
from ae_lab.inference.graphs import TOLERANCE, build_graphs
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable


class TorchExportFormat:
    """`encoder.pt2` and `decoder.pt2`: `torch.export.load(file).module()(images)` runs one."""

    def write(self, loaded: LoadedRun, folder: Path) -> list[str]:
        lines = []
        for graph in build_graphs(loaded):
            file = folder / f"{graph.name}.pt2"
            try:
                program = graph.export()
            except Exception as error:  # what torch cannot trace is any kind of error
                why = " ".join(str(error).split())[:200]
                raise NotApplicable(
                    f"{loaded.run.path}: torch.export cannot trace the {graph.name} ({why}): take "
                    "format=safetensors"
                ) from error
            with replace_atomically(file) as beside, beside.open("wb") as stream:
                torch.export.save(program, stream)
            module = torch.export.load(file).module()
            error = graph.find_error(lambda inputs, module=module: module(*inputs.values()))
            if not error <= TOLERANCE:
                file.unlink()
                raise NotApplicable(f"{file} would differ from the model by {error:.1e}")
            lines.append(f"{file}: {', '.join(graph.inputs)} → {graph.output}, error {error:.0e}")
        return lines
