"""What the machine can do: the precision of `trainer.precision=auto`, large pages of memory."""

import ctypes
import functools
import mmap
import sys

import torch
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

# Pixels of a batch, all channels. Measured on an AVX-512 BF16 CPU, MLP [500, 250, 100]-32 at 784
# pixels an image: bf16 runs 0.9 times as fast as float32 at batch 8, 1.4 times at 32 and at 128.
SMALLEST_CPU_BATCH = 32 * 784


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


def precision(asked: str, accelerator_asked: str, pixels: int) -> str:
    """Lightning's precision: `auto` is bf16-mixed where native, 16-mixed on other CUDA GPUs,
    else 32-true; and 32-true on a CPU for batches of so few `pixels` that casting costs more than
    it saves.
    """
    if asked != "auto":
        return str(asked)
    kind = accelerator(accelerator_asked)
    if native_bf16(kind) and (kind == "cuda" or pixels >= SMALLEST_CPU_BATCH):
        return "bf16-mixed"
    return "16-mixed" if kind == "cuda" else "32-true"


@functools.cache
def huge_pages() -> bool:
    """Have the tensors of this process lie in pages of 2 MiB: whether Linux agreed.

    A step on a CPU takes and frees tensors of megabytes, and to find 4 KiB pages by the hundred
    costs 1 to 7 per cent of it. Here the heap grows by 512 MiB at once, which take no memory until
    they are used, asks for large pages for them, and keeps what is freed; arrays of 32 MiB and more
    stay outside. Systems without glibc are left as they are.

    Source: mallopt(3), madvise(2).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        return False
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    end_of_heap = ctypes.CFUNCTYPE(pointer, ctypes.c_ssize_t)(("sbrk", libc))
    allocate = ctypes.CFUNCTYPE(pointer, size)(("malloc", libc))
    free = ctypes.CFUNCTYPE(None, pointer)(("free", libc))
    advise = ctypes.CFUNCTYPE(ctypes.c_int, pointer, size, ctypes.c_int)(("madvise", libc))
    trim_threshold, top_pad, mmap_threshold, largest = -1, -2, -3, 1 << 25  # of malloc.h
    libc.mallopt(trim_threshold, 2**31 - 1)
    libc.mallopt(top_pad, 1 << 29)
    libc.mallopt(mmap_threshold, largest)
    start = -(-end_of_heap(0) // mmap.PAGESIZE) * mmap.PAGESIZE
    free(allocate(largest - mmap.PAGESIZE))  # more than is left at the heap's end: it grows
    grown = end_of_heap(0) - start
    return grown > 0 and advise(start, grown, mmap.MADV_HUGEPAGE) == 0
