"""Numbers of a finished run beside its test metrics: `function(run, ...) -> float | None`.

An experiment names them under `run_metrics:`, by one `_target_` each; its figures and claims then
use them like any metric. None stands for what a run does not have. A number of an evaluator is
`ae_lab.evaluation.evaluator_number`.
"""

import math

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_choice
from ae_lab.data import ImageData
from ae_lab.evaluation.classical import METHODS
from ae_lab.evaluation.data_cache import cached_for_data
from ae_lab.evaluation.denoisers import denoise, tune_strength
from ae_lab.evaluation.runner import evaluator_number
from ae_lab.inference.loaded_run import load_run
from ae_lab.tracking.run import Run
from ae_lab.training.metrics import psnr

MAX_IMAGES = 1000  # test images whose gradients are compared
NUM_TUNING_IMAGES = 16  # validation images on which a denoiser's strength is chosen


def rows_with(run: Run, *keys: str) -> list[dict[str, float]]:
    """The epochs in which numbers were computed: not all, where not each is validated.

    Raises:
        UserError: there are none.
    """
    rows = [row for row in run.history if row.keys() >= set(keys)]
    if not rows:
        raise UserError(
            f"{run.path} has no {' and '.join(keys)}: it was trained without validation"
        )
    return rows


def final_over_best(run: Run, key: str = "val/mse") -> float:
    """A metric's last value over its lowest one of all epochs: 1 where the last epoch is the
    best."""
    values = [row[key] for row in rows_with(run, key)]
    return values[-1] / min(values)


def val_train_loss_ratio(run: Run) -> float:
    """The validation loss over the training loss in the last epoch: 1 where nothing is memorised.

    The training loss is the mean over the epoch's changing weights, a little above the last.
    """
    last = rows_with(run, "val/loss", "train/loss")[-1]
    return last["val/loss"] / last["train/loss"]


def epochs_to_threshold(run: Run, value: float, key: str = "val/mse") -> float:
    """Epochs until a metric falls to `value`, interpolated between two validations on a straight
    line of its logarithm; those until the first validation if that reaches it, one more than there
    were if none does."""
    before = None
    for row in rows_with(run, key):
        if row[key] <= value:
            if before is None:
                return row["epoch"] + 1.0
            share = math.log(before[key] / value) / math.log(before[key] / row[key])
            return before["epoch"] + 1.0 + share * (row["epoch"] - before["epoch"])
        before = row
    return len(run.history) + 1.0


def epochs_to_converge(run: Run, tolerance: float = 0.05, key: str = "val/mse") -> float:
    """The first epoch from which on a metric stays below (1 + tolerance) times its lowest value."""
    rows = rows_with(run, key)
    lowest = min(row[key] for row in rows)
    above = [row["epoch"] + 1 for row in rows if row[key] > (1 + tolerance) * lowest]
    return max(above, default=0) + 1


def psnr_gain(run: Run) -> float:
    """Test PSNR of the reconstructions minus that of the corrupted images, in dB."""
    return run.metrics["test/psnr"] - corrupted_psnr(run)


def corrupted_psnr(run: Run) -> float:
    """PSNR of the corrupted test images, in dB."""

    def compute(data: ImageData) -> float:
        batch = data.eval_batch("test")
        return float(psnr(batch.corrupted, batch.clean).mean())

    return cached_for_data(run, compute, "corrupted")


def classical_psnr(run: Run, methods: list[str], n: int = 100) -> float:
    """Test PSNR in dB of the best of some classical denoisers on the first n test images, each at
    the strength that is best on validation images."""

    def compute(data: ImageData) -> float:
        batch = data.eval_batch("test", n)
        tuning = list(data.eval_batches("val", NUM_TUNING_IMAGES))
        scores = []
        for name in methods:
            method = check_choice("methods", name, METHODS)
            strength = tune_strength(name, method, tuning)
            restored, _ = denoise(name, method, batch.corrupted, strength, quiet=True)
            scores.append(float(psnr(restored, batch.clean).mean()))
        return max(scores)

    return cached_for_data(run, compute, n, *methods)


def scaled(run: Run, key: str, factor: float) -> float:
    """A metric times a factor: an MSE on [-1, 1] is 4 times that on [0, 1]."""
    return factor * run.metrics[key]


def ratio(run: Run, key: str, over: str) -> float | None:
    """A metric over another one, or over a run metric that comes before this one."""
    return run.metrics[key] / run.metrics[over] if over in run.metrics else None


def gradient_energy(images: Tensor) -> Tensor:
    """Σ (difference of neighbours)², along both axes, of each of the images (B, C, H, W), (B,)."""
    down, across = images.diff(dim=2).square(), images.diff(dim=3).square()
    return down.flatten(1).sum(1) + across.flatten(1).sum(1)


def gradient_energy_ratio(run: Run) -> float:
    """Gradient energy of the reconstructions over that of the clean images: 1 is as sharp as the
    original, less is smoother."""
    loaded = load_run(run)
    batch = loaded.data.eval_batch("test", min(MAX_IMAGES, len(loaded.data.split("test"))))
    reconstruction = loaded.reconstruct(batch)
    return float(gradient_energy(reconstruction).sum() / gradient_energy(batch.clean).sum())


def gradient_flow(run: Run) -> float:
    """Root mean square of the objective's gradient in the encoder's first weight over that in the
    decoder's last one, on a hundred test images: small where the gradient vanishes."""
    loaded = load_run(run)
    model = loaded.model.train()
    loss, _ = model.objective(model(loaded.data.eval_batch("test", 100)), model)
    loss.backward()
    ends = _weights(model.encoder)[0], _weights(model.decoder)[-1]
    first, last = (weight.grad.square().mean().sqrt() for weight in ends)
    return float(first / last)


def _weights(part: torch.nn.Module) -> list[Tensor]:
    return [weight for weight in part.parameters() if weight.ndim > 1]


def sample_quality(
    run: Run, number: str, sampler: str | None = None, n: int = 2000, seed: int = 0
) -> float | None:
    """A number of n random images by the evaluator `samples`: label confidence, label accuracy,
    frechet, precision, recall, density or coverage.

    None where images have no single label, or where the run cannot generate in this way.
    """
    options = [f"sampler={sampler}"] if sampler else []
    options += [f"evaluator.samples.n={n}", f"evaluator.samples.seed={seed}"]
    return evaluator_number(run, "samples", number, overrides=options)
