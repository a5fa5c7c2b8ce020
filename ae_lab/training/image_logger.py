"""Images and codes of a run for its loggers."""

from collections.abc import Iterable

import torch
from pytorch_lightning import Callback
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from ae_lab.core.hardware import full_precision
from ae_lab.core.images import tile_rows
from ae_lab.core.randomness import generator
from ae_lab.data.images import Batch
from ae_lab.models.latent_grid import latent_grid
from ae_lab.training.loggers import log_image

NUM_EXAMPLES = 8
GRID_SIDE = 10  # of a square of decoded codes
NUM_EMBEDDED = 1000  # codes in the projector


class ImageLogger(Callback):
    """Per validation: clean, corrupted and reconstructed images, one row each; random codes
    decoded, where the model has a prior; a grid of codes decoded, where they have two dimensions.
    Where the code has a divergence for each dimension, TensorBoard gets its histogram over
    dimensions: those that pile up at 0 have collapsed to the prior.

    At the end of the test: the codes of test images in TensorBoard's projector, with labels and
    thumbnails, if the code is a vector.
    """

    def __init__(self) -> None:
        self.codes: list[Tensor] = []
        self.batches: list[Batch] = []

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx, _=0) -> None:
        if batch_idx > 0 or not trainer.is_global_zero or not trainer.loggers:
            return
        with full_precision(module.device):
            images = self.image_rows(module, batch)
            divergence = None
            if "kl" in module.bottleneck.outputs:
                encoded = module.encode(batch.corrupted, batch.label, side=batch.side)
                divergence = encoded[1]["kl"].mean(0)
        step = module.num_updates - 1  # as scalars are: those of the next update are yet to come
        for logger in trainer.loggers:
            if divergence is not None and isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram("kl per dimension", divergence, step)
            for name, rows in images.items():
                log_image(logger, name, tile_rows(*rows), step)

    def image_rows(self, module, batch: Batch) -> dict[str, Iterable[Tensor]]:
        """Rows of images, by what they show."""
        few = batch.part(slice(NUM_EXAMPLES))
        reconstruction = module(few).reconstruction
        rows = {"clean · corrupted · reconstructed": (few.clean, few.corrupted, reconstruction)}
        if not module.can_generate:
            return rows
        if module.bottleneck.has_prior:
            classes = torch.eye(batch.label.shape[1]).to(batch.label)
            label = classes[torch.arange(GRID_SIDE * GRID_SIDE) % GRID_SIDE % len(classes)]
            codes = module.bottleneck.sample(label, generator(module.seed, "samples"))
            rows["random codes"] = module.decode_images(codes, label).split(GRID_SIDE)
        if module.bottleneck.shape == (2,):
            trained = module.encode(batch.corrupted, batch.label, side=batch.side)[0]
            codes = latent_grid(trained, GRID_SIDE, GRID_SIDE).flatten(0, 1)
            label = batch.label[:1].expand(len(codes), -1)
            rows["latent grid"] = module.decode_images(codes, label).split(GRID_SIDE)
        return rows

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx, _=0) -> None:
        count = sum(map(len, self.codes))
        if count < NUM_EMBEDDED and trainer.is_global_zero:
            with full_precision(module.device):
                code, *_ = module.encode(batch.corrupted, batch.label, side=batch.side)
            if code.ndim > 2:  # maps: tens of thousands of values an image, as text
                return
            self.codes.append(code[: NUM_EMBEDDED - count].cpu())
            self.batches.append(batch.part(slice(NUM_EMBEDDED - count)))

    def on_test_end(self, trainer, module) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        codes = torch.cat(self.codes) if self.codes else torch.empty(0, 0)
        # The projector wants two dimensions at least: a code of one gets a zero beside it.
        codes = torch.nn.functional.pad(codes, (0, max(0, 2 - codes.shape[1])))
        for board in boards if len(codes) else []:
            labels = [
                " ".join(map(str, row.nonzero().flatten().tolist()))
                for batch in self.batches
                for row in batch.label.cpu()
            ]
            images = torch.cat([batch.clean.cpu() for batch in self.batches])
            board.experiment.add_embedding(
                codes, labels, images, global_step=module.steps, tag="code"
            )
        self.codes, self.batches = [], []
