"""Anomaly detection: does what a run reconstructs badly differ from what it was trained on?"""

import numpy as np
import torch
from torch import Tensor

from ae_lab.core.errors import check_choice, check_int
from ae_lab.core.randomness import reseed
from ae_lab.data import Batch
from ae_lab.data.images import to_pixels
from ae_lab.evaluation.evaluator import Evaluation
from ae_lab.inference.likelihood import bound_log_likelihood
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable

AGAINST = ("class", "corruption")
NUM_CODES = 32  # of each image, for its ELBO
MAX_TRAINING_IMAGES = 20_000  # that PCA is fitted on


class AnomalyEvaluator:
    """Area under the ROC curve, and average precision, of scores that say how unusual an image is.

    Anomalies are test images of the class that the run was trained without (`data.exclude`), or
    with `against="corruption"` corrupted test images beside the same ones clean. Scores are the
    squared error of the reconstruction of what the run is given, of PCA with as many components as
    the code has values, and of variational runs -ELBO too, the last row where there is one.

    Sources: Sakurada & Yairi, MLSDA 2014 (reconstruction); An & Cho, 2015 (variational).

    Raises:
        UserError: it is not known what to compare, or n is not an integer >= 1.
        NotApplicable: no class was left out; images are not corrupted; the test has one kind alone.
    """

    def __init__(self, against: str = "class", n: int | None = None, seed: int = 0):
        check_choice("evaluator.anomaly.against", against, dict.fromkeys(AGAINST))
        self.against = against
        self.n = n if n is None else check_int("evaluator.anomaly.n", n)
        self.seed = check_int("evaluator.anomaly.seed", seed, minimum=0)

    @torch.no_grad()
    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        batch, is_anomaly, what = self.gather(loaded)
        scores = {
            "PCA": pca_errors(loaded, batch),
            "reconstruction error": squared_errors(loaded.reconstruct(batch), batch.corrupted),
        }
        likelihood = loaded.model.objective.likelihood
        if likelihood is not None and "log_ratio" in loaded.model.bottleneck.outputs:
            reseed(loaded.model.device, self.seed, "anomaly")
            elbo, _ = bound_log_likelihood(loaded.model, batch, NUM_CODES)
            scores["-ELBO"] = -elbo
        labels = is_anomaly.numpy()
        rows = {name: score(labels, values.numpy()) for name, values in scores.items()}
        title = f"{loaded.run.name}: {what}, {loaded.data.images.title}"
        per_image = {"is_anomaly": is_anomaly.long(), **scores}
        figures = {"roc": draw_roc(labels, scores, rows, what)}
        note = f"PCA has {loaded.model.num_code_values} components, as the code has values"
        return Evaluation(title, rows, note, per_image, figures)

    def gather(self, loaded: LoadedRun) -> tuple[Batch, Tensor, str]:
        """What the run is given, in one batch whose clean images are the same; which of them are
        anomalies, (N,); and what these are."""
        batch = loaded.data.eval_batch("test", self.n)
        if self.against == "corruption":
            if torch.equal(batch.clean, batch.corrupted):
                raise NotApplicable(
                    "evaluator.anomaly.against=corruption needs a corruption, as noise=gaussian"
                )
            given = torch.cat([batch.clean, batch.corrupted])
            batch = as_given(given, batch.label.repeat(2, 1))
            is_anomaly = torch.arange(len(given)) >= len(given) // 2
            return batch, is_anomaly, "corrupted against clean images"
        name = loaded.data.exclude
        if name is None:
            raise NotApplicable(
                f"{loaded.run.path} was trained on all classes: train one with data.exclude=..., "
                "or take evaluator.anomaly.against=corruption"
            )
        column = loaded.data.images.class_names.index(name)
        is_anomaly = batch.label[:, column] > 0
        if is_anomaly.all() or not is_anomaly.any():
            raise NotApplicable(f"of {len(is_anomaly)} test images all or none are of class {name}")
        what = f"{name} against the other classes"
        return as_given(batch.corrupted, batch.label), is_anomaly, what


def as_given(images: Tensor, label: Tensor) -> Batch:
    """Images as a run is given them, which it is to reconstruct as they are."""
    return Batch(images, images, label, torch.arange(len(images)))


def squared_errors(images: Tensor, reference: Tensor) -> Tensor:
    """Sum of squared differences of each image, (B,)."""
    return (images - reference).square().flatten(1).sum(1)


def pca_errors(loaded: LoadedRun, batch: Batch) -> Tensor:
    """The squared distance of each image to the space of the first principal components."""
    from sklearn.decomposition import PCA

    train = to_pixels(loaded.data.split("train").images[:MAX_TRAINING_IMAGES]).flatten(1).numpy()
    components = min(loaded.model.num_code_values, *train.shape)
    fitted = PCA(components, random_state=0).fit(train)
    values = batch.corrupted.flatten(1).numpy()
    restored = fitted.inverse_transform(fitted.transform(values))
    return torch.from_numpy(np.square(restored - values).sum(1))


def score(is_anomaly: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """AUROC with its standard error, and average precision, of scores (N,).

    AUROC A is the chance that an anomaly scores above another image. With n₁ anomalies, n₀ others,
    Q₁ = A/(2 - A) and Q₂ = 2A²/(1 + A), its variance is
    (A(1 - A) + (n₁ - 1)(Q₁ - A²) + (n₀ - 1)(Q₂ - A²)) / n₁n₀.

    Source: Hanley & McNeil, Radiology 143 (1982) 29.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    area = float(roc_auc_score(is_anomaly, scores))
    positive = int(is_anomaly.sum())
    negative = len(is_anomaly) - positive
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (positive - 1) * (first - area**2) + (negative - 1) * (second - area**2)
    return {
        "auroc": area,
        "auroc_se": max(0.0, variance / (positive * negative)) ** 0.5,
        "average_precision": float(average_precision_score(is_anomaly, scores)),
    }


def draw_roc(
    is_anomaly: np.ndarray, scores: dict[str, Tensor], rows: dict[str, dict[str, float]], what: str
):
    """The share of anomalies found against the share of false alarms, a curve for each score."""
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_curve

    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in scores.items():
        false, true, _ = roc_curve(is_anomaly, values.numpy())
        axes.plot(false, true, label=f"{name}: {rows[name]['auroc']:.3f}")
    axes.plot([0, 1], [0, 1], color="gray", linestyle=":")
    axes.set(xlabel="false alarms", ylabel="anomalies found", title=what)
    axes.legend(loc="lower right", title="area under the curve")
    return figure
