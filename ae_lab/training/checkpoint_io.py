"""Checkpoints that are complete or not there."""

import os
from pathlib import Path

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ae_lab.core.files import replace_atomically

WEIGHTS_ALONE = "weights alone"  # a storage option: leave out what only resuming needs
FOR_RESUMING = ("optimizer_states", "lr_schedulers", "loops", "callbacks", "current_model_state")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to the disk, and renames into place.

    A process killed while it saves leaves the earlier checkpoint as it was.
    """

    def save_checkpoint(self, checkpoint: dict, path, storage_options=None) -> None:
        if storage_options == WEIGHTS_ALONE:
            checkpoint = {k: v for k, v in checkpoint.items() if k not in FOR_RESUMING}
        with replace_atomically(Path(path)) as beside, beside.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
