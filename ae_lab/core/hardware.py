"""What the machine can do: the precision of `trainer.precision=auto`, and float32 within it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from ae_lab.core.errors import UserError, check_choice

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
SHORT_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed", "64": "64-true"}
# On a CPU Lightning would take bf16 for 16-mixed, and not say so.
UNSUPPORTED = {"cpu": ("16-mixed", "16-true"), "mps": ("64-true",)}

# Pixels of a batch, all channels. Measured on an AVX-512 BF16 CPU, MLP [500, 250, 100]-32 at 784
# pixels an image: bf16 runs 0.9 times as fast as float32 at batch 8, 1.4 times at 32 and at 128.
SMALLEST_CPU_BATCH = 32 * 784


def resolve_accelerator(name: str) -> str:
    """'cuda', 'mps' or 'cpu' for Lightning's `accelerator` argument.

    Raises:
        UserError: this machine does not have it.
    """
    available = {"cuda": CUDAAccelerator.is_available(), "mps": MPSAccelerator.is_available()}
    first = next((kind for kind in available if available[kind]), "cpu")
    if name == "auto":
        return first
    if not available.get(name, name != "gpu" or first != "cpu"):
        raise UserError(
            f"trainer.accelerator={name}: torch {torch.__version__} finds no such device on this "
            "machine; take trainer.accelerator=auto, or cpu"
        )
    return first if name == "gpu" else name


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


def full_precision(device: torch.device) -> AbstractContextManager:
    """A context without autocast; the meta device of a dry run has none to switch off."""
    has_autocast = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if has_autocast else nullcontext()


def widen(values: torch.Tensor) -> torch.Tensor:
    """Values that autocast has shortened, as float32; without autocast, values as they are."""
    kind = values.device.type
    shortened = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return values.float() if shortened else values


def resolve_precision(name: str, accelerator: str, pixels: int) -> str:
    """Lightning's precision by its full name. `auto` is bf16-mixed where native, 16-mixed on other
    CUDA GPUs, else 32-true; and 32-true on a CPU for batches of so few `pixels` that casting costs
    more than it saves.

    Raises:
        UserError: the precision is not known, or not for this device.
    """
    kind = resolve_accelerator(accelerator)
    if name == "auto":
        if has_native_bf16(kind) and (kind == "cuda" or pixels >= SMALLEST_CPU_BATCH):
            return "bf16-mixed"
        return "16-mixed" if kind == "cuda" else "32-true"
    names = {precision: precision for precision in PRECISIONS} | SHORT_PRECISIONS
    precision = check_choice("trainer.precision", str(name), names)
    if precision in UNSUPPORTED.get(kind, ()):
        others = [other for other in PRECISIONS if other not in UNSUPPORTED[kind]]
        raise UserError(
            f"trainer.precision={name} does not run on this device ({kind}): take auto, "
            f"or one of {', '.join(others)}"
        )
    return precision
