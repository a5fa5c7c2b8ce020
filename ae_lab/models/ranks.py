"""What the processes of one run tell each other, where there are several: buffers that training
changes have to stay the same on all of them."""

from torch import Tensor, distributed, nn


def num_ranks() -> int:
    """How many processes train this model."""
    is_shared = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_shared else 1


def sum_over_ranks(values: Tensor) -> None:
    """Replace values by their sum over all ranks, which all have to call it."""
    if num_ranks() > 1 and not values.is_meta:
        distributed.all_reduce(values)


def share_buffers(module: nn.Module) -> None:
    """Take the buffers of the first rank; all have to call it.

    DDP does so before each training step alone. What normalises a batch, or a token that becomes
    an entry of a codebook, is of a rank's own images until then.
    """
    if num_ranks() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
