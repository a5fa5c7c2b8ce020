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
        batches = loaded.data.eval_batches(self.split)
        shown: list[list[Tensor]] = []
        quality: list[Tensor] = []
        kinds = ("corrupted", "reconstruction")
        others = {kind: other_metrics(metrics) for kind in kinds}
        for batch in batches:
            images = dict(zip(kinds, (batch.corrupted, loaded.reconstruct(batch)), strict=True))
            kept = [batch.clean, *images.values()]
            if not batches.split.has_one_size:  # photographs: what is not shown is let go of
                kept = [crop_middle(one, SHOWN_SIDE, SHOWN_SIDE).clone() for one in kept]
            shown.append(kept)
            quality.append(psnr(images["reconstruction"], batch.clean))
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
            figures={"extremes": draw_extremes(torch.cat(quality), *gather(shown))},
        )


def gather(shown: list[list[Tensor]]) -> list[Tensor]:
    """Clean, corrupted and reconstructed images of all batches, (N, C, h, w) each: of images of
    different sizes what fits into the smallest, from their middle."""
    sides = [min(batch[0].shape[axis] for batch in shown) for axis in (2, 3)]
    return [
        torch.cat([crop_middle(images, *sides) for images in kind])
        for kind in zip(*shown, strict=True)
    ]


def crop_middle(images: Tensor, height: int, width: int) -> Tensor:
    """The middle of images (B, C, H, W), at most so large."""
    for axis, side in zip((2, 3), (height, width), strict=True):
        spare = max(0, images.shape[axis] - side)
        images = images.narrow(axis, spare // 2, images.shape[axis] - spare)
    return images


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


def draw_extremes(
    quality: Tensor, clean: Tensor, corrupted: Tensor, reconstruction: Tensor
) -> Tensor:
    """Clean, corrupted and reconstructed images, one row each: those of highest, median and lowest
    quality (N,)."""
    order = quality.argsort(descending=True)
    middle = max(0, (len(order) - NUM_SHOWN) // 2)
    chosen = [order[:NUM_SHOWN], order[middle : middle + NUM_SHOWN], order[-NUM_SHOWN:]]
    index = torch.cat(chosen)
    return tile_rows(*(images[index] for images in (clean, corrupted, reconstruction)))
