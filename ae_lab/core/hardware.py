"""What the machine can do: the precision of `trainer.precision=auto`."""

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

# Pixels of a batch, all channels. Measured on an AVX-512 BF16 CPU, MLP [500, 250, 100]-32 at 784
# pixels an image: bf16 runs 0.9 times as fast as float32 at batch 8, 1.4 times at 32 and at 128.
SMALLEST_CPU_BATCH = 32 * 784


def resolve_accelerator(name: str) -> str:
    """'cuda', 'mps' or 'cpu' for Lightning's `accelerator` argument."""
    if name in ("auto", "gpu"):
        if CUDAAccelerator.is_available():
            return "cuda"
        return "mps" if MPSAccelerator.is_available() else "cpu"
    return name


def has_native_bf16(kind: str) -> bool:
    """Whether bfloat16 products run in hardware, not emulated.

    `torch.cuda.is_bf16_supported()` counts emulation; native support begins with compute
    capability 8.0. On a CPU it takes AVX-512 BF16 or AMX.
    """
    if kind == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    return kind == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )


def resolve_precision(name: str, accelerator: str, pixels: int) -> str:
    """Lightning's precision: `auto` is bf16-mixed where native, 16-mixed on other CUDA GPUs,
    else 32-true; and 32-true on a CPU for batches of so few `pixels` that casting costs more than
    it saves.
    """
    if name != "auto":
        return str(name)
    kind = resolve_accelerator(accelerator)
    if has_native_bf16(kind) and (kind == "cuda" or pixels >= SMALLEST_CPU_BATCH):
        return "bf16-mixed"
    return "16-mixed" if kind == "cuda" else "32-true"
