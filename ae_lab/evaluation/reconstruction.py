"""How well a run reconstructs: its metrics, image by image."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

from ae_lab.core.images import tile_rows
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.training.metrics import ImageMetric, psnr

NUM_SHOWN = 4  # images of each kind in the figure
SHOWN_SIDE = 160  # pixels of images of different sizes


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
        metrics, values = loaded.model.metrics, {}
        shown: list[tuple[Tensor, ...]] = []
        kinds = ("corrupted", "reconstruction")
        others = {kind: other_metrics(metrics) for kind in kinds}
        for batch in loaded.data.eval_batches(self.split):
            images = dict(zip(kinds, (batch.corrupted, loaded.reconstruct(batch)), strict=True))
            shown.append((batch.clean, *images.values()))
            for kind, restored in images.items():
                for name, column in image_values(metrics, restored, batch.clean).items():
                    values.setdefault(kind, {}).setdefault(name, []).append(column)
                update_in_chunks(others[kind], restored, batch.clean)
        columns = {
            kind: {name: torch.cat(parts) for name, parts in values.get(kind, {}).items()}
            for kind in kinds
        }
        rows = {
            kind: summarize(columns[kind])
            | {name: float(metric.compute()) for name, metric in others[kind].items()}
            for kind in kinds
        }
        title = f"{loaded.run.name}: {self.split} split of {loaded.data.images.title}"
        return Evaluation(
            title,
            rows,
            per_image={f"{k}/{name}": c for k in kinds for name, c in columns[k].items()},
            figures={"extremes": draw_extremes(*gather(shown))},
        )


def gather(shown: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Clean, corrupted and reconstructed images of all batches, (N, C, h, w) each: of images of
    different sizes what fits into the smallest, from their middle."""
    sides = [min(batch[0].shape[axis] for batch in shown) for axis in (2, 3)]
    if len(shown) > 1:
        sides = [min(side, SHOWN_SIDE) for side in sides]

    def cut(images: Tensor) -> Tensor:
        top, left = ((all_ - side) // 2 for all_, side in zip(images.shape[2:], sides, strict=True))
        return images[..., top : top + sides[0], left : left + sides[1]]

    return [torch.cat([cut(images) for images in kind]) for kind in zip(*shown, strict=True)]


def image_values(metrics: Mapping[str, Metric], images: Tensor, clean: Tensor) -> dict[str, Tensor]:
    """The value of each image, (B,), by the name of the metric."""
    return {
        name: metric.per_image(images, clean)
        for name, metric in metrics.items()
        if isinstance(metric, ImageMetric)
    }


def other_metrics(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Fresh copies of the metrics that have no value for each image, and need images alone."""
    return {
        name: metric.clone()
        for name, metric in metrics.items()
        if not (isinstance(metric, ImageMetric) or getattr(metric, "requires", ()))
    }


def update_in_chunks(
    metrics: Mapping[str, Metric], images: Tensor, clean: Tensor, chunk: int = 500
) -> None:
    for metric in metrics.values():
        for part in zip(images.split(chunk), clean.split(chunk), strict=True):
            metric.update(*part)


def draw_extremes(clean: Tensor, corrupted: Tensor, reconstruction: Tensor) -> Tensor:
    """Clean, corrupted and reconstructed images, one row each: those of highest, median and lowest
    PSNR."""
    order = psnr(reconstruction, clean).argsort(descending=True)
    middle = max(0, (len(order) - NUM_SHOWN) // 2)
    chosen = [order[:NUM_SHOWN], order[middle : middle + NUM_SHOWN], order[-NUM_SHOWN:]]
    index = torch.cat(chosen)
    return tile_rows(*(images[index] for images in (clean, corrupted, reconstruction)))
