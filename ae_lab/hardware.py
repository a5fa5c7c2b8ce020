"""What the machine can do: the precision that `trainer.precision=auto` stands for."""

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true")


def accelerator(asked: str) -> str:
    """'cuda', 'mps' or 'cpu' for Lightning's `accelerator` argument."""
    if asked in ("auto", "gpu"):
        if CUDAAccelerator.is_available():
            return "cuda"
        return "mps" if MPSAccelerator.is_available() else "cpu"
    return asked


def native_bf16(kind: str) -> bool:
    """Whether bfloat16 products run in hardware, not emulated.

    `torch.cuda.is_bf16_supported()` counts emulation; native support begins with compute
    capability 8.0. On a CPU it takes AVX-512 BF16 or AMX.
    """
    if kind == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return kind == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def precision(asked: str, accelerator_asked: str) -> str:
    """Lightning's precision: `auto` is bf16-mixed where native, 16-mixed on other CUDA GPUs,
    else 32-true."""
    if asked != "auto":
        return str(asked)
    kind = accelerator(accelerator_asked)
    if native_bf16(kind):
        return "bf16-mixed"
    return "16-mixed" if kind == "cuda" else "32-true"
