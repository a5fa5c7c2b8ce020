"""How good a run's random images are, by a classifier of the data's own labels."""

from pathlib import Path

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_int
from ae_lab.data.images import to_pixels
from ae_lab.evaluation.classifier import FeatureClassifier, load_or_train_classifier
from ae_lab.evaluation.evaluator import Evaluation
from ae_lab.evaluation.fidelity import (
    NUM_NEIGHBOURS,
    frechet_distance,
    inception_distance,
    manifold_scores,
)
from ae_lab.inference.loaded_run import LoadedRun
from ae_lab.inference.samplers import Prior, Sampler, describe_sampler


class SampleEvaluator:
    """Scores of `n` random images, and of as many real test images, both against `n` training
    images.

    Real images that the run was not trained on are the ceiling. Random images are those of
    `python -m ae_lab.generate`; `sampler` says where their codes come from. `cache` is the folder
    of classifiers. With `inception`, the file of Inception's weights, there is the FID of the
    literature too.

    Raises:
        UserError: n is not an integer >= 1 or the images are too few; seed is not one >= 0;
            unusable weights.
        NotApplicable: images have several labels each, or none; the run cannot generate.
    """

    def __init__(
        self,
        cache: str,
        n: int = 5000,
        sampler: Sampler | Prior | None = None,
        seed: int = 0,
        inception: str | None = None,
    ):
        self.cache, self.n = Path(cache).expanduser(), check_int("evaluator.samples.n", n)
        self.seed = check_int("evaluator.samples.seed", seed, minimum=0)
        self.sampler, self.inception = sampler, inception

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        images = loaded.data.images
        images.train.check_one_size()
        sampler = self.sampler or loaded.default_sampler()
        loaded.check_can_generate(sampler)  # before a classifier is trained for it
        classifier = load_or_train_classifier(images, self.cache)
        real, generated = score_samples(
            loaded, sampler, self.n, self.seed, classifier, self.inception
        )
        n = min(self.n, len(images.test))
        return Evaluation(
            f"{loaded.run.name}: {n} random images, seed {self.seed}, and real ones of "
            f"{images.title}",
            {"real images": real, f"generated, {describe_sampler(sampler)}": generated},
            note=f"classifier test accuracy: {classifier.accuracy:.2%}",
        )


def score_samples(
    loaded: LoadedRun,
    sampler: Sampler | Prior | None,
    n: int,
    seed: int,
    classifier: FeatureClassifier,
    inception: str | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of n real test images and of n random ones, both against n training images.

    Raises:
        UserError: too few images, or unusable weights.
        NotApplicable: a run that cannot generate.
    """
    train, test = loaded.data.split("train"), loaded.data.split("test")
    real = test.first(min(n, len(test)))
    n = len(real)
    if n <= NUM_NEIGHBOURS:
        raise UserError(f"{n} images are too few: give n of at least {NUM_NEIGHBOURS + 1}")
    codes, labels = loaded.sample_codes(n, None, sampler, seed)
    generated = loaded.decode(codes, labels)
    chosen = labels.argmax(1) if loaded.model.conditional else None
    some = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]
    trained, held_out = to_pixels(train.images[some]), to_pixels(real.images)
    reference = classifier.classify(trained)[0]
    scores = (
        score_images(classifier, held_out, real.labels.argmax(1), reference),
        score_images(classifier, generated, chosen, reference),
    )
    if inception:
        for row, images in zip(scores, (held_out, generated), strict=True):
            row["fid"] = inception_distance(trained, images, Path(inception))
    return scores


def score_images(
    classifier: FeatureClassifier, images: Tensor, labels: Tensor | None, reference: Tensor
) -> dict[str, float]:
    """All scores of images against reference features (N, 128); accuracy where images (n, ...)
    were made for labels (n,)."""
    features, probability = classifier.classify(images)
    scores = {"label confidence": float(probability.max(1).values.mean())}
    if labels is not None:
        scores["label accuracy"] = float((probability.argmax(1) == labels).float().mean())
    distance = {"frechet": frechet_distance(reference, features)}
    return scores | distance | manifold_scores(reference, features)
