"""How well a run reconstructs: its metrics, image by image."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from ae_lab.core.images import tile_rows
from ae_lab.data import Batch
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.training.metrics import ImageMetric, psnr

NUM_SHOWN = 4  # images of each kind in the figure


class ReconstructionEvaluator:
    """The metrics that the run was configured with, of a split's corrupted images and of their
    reconstructions.

    An `ImageMetric` also gives a value for each image; of any other metric there is the mean
    alone, and nothing of one that requires outputs of the bottleneck. The figure shows the images
    of highest, median and lowest PSNR.
    """

    def __init__(self, split: str = "test"):
        self.split = split

    @torch.no_grad()
    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        batch, metrics = loaded.data.eval_batch(self.split), loaded.model.metrics
        reconstruction = loaded.reconstruct(batch)
        rows, per_image = {}, {}
        for name, images in (("corrupted", batch.corrupted), ("reconstruction", reconstruction)):
            values = image_values(metrics, images, batch.clean)
            rows[name] = summarize(values) | mean_values(metrics, images, batch.clean)
            per_image |= {f"{name}/{metric}": column for metric, column in values.items()}
        title = f"{loaded.run.name}: {self.split} split of {loaded.data.images.title}"
        order = psnr(reconstruction, batch.clean).argsort(descending=True)
        figures = {"extremes": draw_extremes(batch, reconstruction, order)}
        return Evaluation(title, rows, per_image=per_image, figures=figures)


def image_values(metrics: Mapping[str, Metric], images: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """The value of each image, (B,), by the name of the metric."""
    return {
        name: metric.per_image(images, clean)
        for name, metric in metrics.items()
        if isinstance(metric, ImageMetric)
    }


def mean_values(
    metrics: Mapping[str, Metric], images: Tensor, clean: Tensor, chunk: int = 500
) -> dict[str, float]:
    """The values over all images of the metrics that have none for each image."""
    means = {}
    for name, metric in metrics.items():
        if not (isinstance(metric, ImageMetric) or getattr(metric, "requires", ())):
            metric.reset()
            for part in zip(images.split(chunk), clean.split(chunk), strict=True):
                metric.update(*part)
            means[name] = float(metric.compute())
            metric.reset()
    return means


def draw_extremes(batch: Batch, reconstruction: Tensor, order: Tensor) -> Tensor:
    """Clean, corrupted and reconstructed images, one row each: the first, the middle and the last
    ones of an order."""
    middle = max(0, (len(order) - NUM_SHOWN) // 2)
    chosen = [order[:NUM_SHOWN], order[middle : middle + NUM_SHOWN], order[-NUM_SHOWN:]]
    index = torch.cat(chosen)
    return tile_rows(*(images[index] for images in (batch.clean, batch.corrupted, reconstruction)))
