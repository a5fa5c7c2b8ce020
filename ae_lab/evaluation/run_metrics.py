"""Numbers of a finished run that its test does not give: `measure(run, ...) -> float | None`.

A study asks for them by name, `measures:`, one `_target_` each; a figure or a claim then speaks of
them as of any metric. None stands for what a run does not have.
"""

import math
from functools import cache
from pathlib import Path

import torch
from omegaconf import OmegaConf
from torch import Tensor

from ae_lab.core.configuration import CONF
from ae_lab.core.errors import UserError, check_choice
from ae_lab.data.module import ImageData
from ae_lab.evaluation.classical import METHODS
from ae_lab.evaluation.classifier import judge
from ae_lab.evaluation.denoisers import apply, tuned
from ae_lab.evaluation.samples import compare
from ae_lab.inference.loaded_run import cached_for_data, load_run
from ae_lab.inference.samplers import by_name
from ae_lab.tracking.run import Run
from ae_lab.training.metrics import psnr

FIRST = 1000  # test images that a measure of images looks at


def rise(run: Run, of: str = "val/mse") -> float:
    """The last value over the lowest one of all epochs: 1 where training has not begun to harm."""
    values = [row[of] for row in run.history]
    return values[-1] / min(values)


def gap(run: Run) -> float:
    """The validation loss over the training loss in the last epoch: 1 where nothing is learnt by
    heart. The training loss is that of the epoch's changing weights, a little above the last."""
    last = run.history[-1]
    return last["val/loss"] / last["train/loss"]


def epochs_to(run: Run, value: float, of: str = "val/mse") -> float:
    """Epochs until a metric falls to `value`, between two epochs on a straight line of its
    logarithm; 1 if the first one is enough, one more than there were if none is."""
    before = None
    for row in run.history:
        if row[of] <= value:
            if before is None:
                return 1.0
            share = math.log(before / value) / math.log(before / row[of])
            return row["epoch"] + share
        before = row[of]
    return len(run.history) + 1.0


def settled(run: Run, within: float = 0.05, of: str = "val/mse") -> float:
    """The first epoch from which on a metric stays within a share of its lowest value."""
    lowest = min(row[of] for row in run.history)
    far = [row["epoch"] + 1 for row in run.history if row[of] > (1 + within) * lowest]
    return max(far, default=0) + 1


def gain(run: Run) -> float:
    """By how many dB the reconstructions are nearer to the clean test images than the noisy are."""
    return run.metrics["test/psnr"] - seen_psnr(run)


def seen_psnr(run: Run) -> float:
    """PSNR in dB of the test images as the model sees them."""

    def compute(data: ImageData) -> float:
        batch = data.evaluated("test")
        return float(psnr(batch.seen, batch.clean).mean())

    return cached_for_data(run, compute, "seen")


def classical_psnr(run: Run, methods: list[str], n: int = 100) -> float:
    """Test PSNR in dB of the best of some classical denoisers on the first n test images, each at
    the strength that is best on 16 validation images."""

    def compute(data: ImageData) -> float:
        batch, tuning = data.evaluated("test", n), data.evaluated("val", 16)
        scores = []
        for name in methods:
            method = check_choice("methods", name, METHODS)
            strength = tuned(name, method, tuning)
            loaded, _ = apply(name, method, batch.seen, strength, quiet=True)
            scores.append(float(psnr(loaded, batch.clean).mean()))
        return max(scores)

    return cached_for_data(run, compute, n, *methods)


def scaled(run: Run, of: str, by: float) -> float:
    """A metric times a factor: an MSE on [-1, 1] is 4 times that on [0, 1]."""
    return by * run.metrics[of]


def over(run: Run, of: str, under: str) -> float | None:
    """A metric over another one, or over a measure that the study takes before."""
    return run.metrics[of] / run.metrics[under] if under in run.metrics else None


def energy(images: Tensor) -> Tensor:
    """Σ (difference of neighbours)², along both axes, of each of the images (B, C, H, W)."""
    down, across = images.diff(dim=2).square(), images.diff(dim=3).square()
    return down.flatten(1).sum(1) + across.flatten(1).sum(1)


def sharpness(run: Run) -> float:
    """Energy of the reconstructions' gradients over that of the clean images: 1 is as sharp as the
    original, less is smoother."""
    loaded = load_run(run)
    batch = loaded.data.evaluated("test", min(FIRST, len(loaded.data.split("test"))))
    return float(energy(loaded.reconstruct(batch)).sum() / energy(batch.clean).sum())


def gradient_flow(run: Run) -> float:
    """Root mean square of the objective's gradient in the encoder's first weight over that in the
    decoder's last one, on a hundred test images: small where the gradient dies on its way."""
    loaded = load_run(run)
    model = loaded.model.train()
    loss, _ = model.objective(model(loaded.data.evaluated("test", 100)), model)
    loss.backward()
    ends = _weights(model.encoder)[0], _weights(model.decoder)[-1]
    first, last = (weight.grad.square().mean().sqrt() for weight in ends)
    return float(first / last)


def _weights(part: torch.nn.Module) -> list[Tensor]:
    return [weight for weight in part.parameters() if weight.ndim > 1]


def judged(
    run: Run, score: str, sampler: str | None = None, n: int = 2000, seed: int = 0
) -> float | None:
    """A score of n random images by the data's classifier, as `python -m ae_lab.evaluation.samples` gives it:
    label confidence, label accuracy, frechet, precision, recall, density, coverage.

    None where images have no single label, or where the run cannot generate in this way.
    """
    found = _judged(str(run.path), sampler, n, seed)
    return check_choice("score", score, {"label accuracy": None} | found) if found else None


@cache
def _judged(path: str, sampler: str | None, n: int, seed: int) -> dict[str, float]:
    loaded = load_run(Run(Path(path)))
    if not loaded.data.split("train").single:
        return {}
    # This machine's cache, not that of the machine the run was made on.
    cache = OmegaConf.load(CONF / "paths" / "default.yaml").cache
    judging = judge(loaded.data.images, Path(cache).expanduser())
    try:
        return compare(loaded, by_name(sampler), n, seed, judging)[1]
    except UserError:  # it cannot generate in this way
        return {}
