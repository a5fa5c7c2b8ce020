"""How smooth a latent space is: do images between two codes still look like something?"""

from pathlib import Path

import torch
from torch import Tensor

from ae_lab.core.errors import UserError, check_int
from ae_lab.core.randomness import generator
from ae_lab.evaluation.classifier import FeatureClassifier, load_or_train_classifier
from ae_lab.evaluation.evaluator import Evaluation
from ae_lab.inference.loaded_run import LoadedRun

SHARES = {"at the ends": (0.0, 1.0), "between": (0.25, 0.5, 0.75)}


class InterpolationEvaluator:
    """Label confidence of the images decoded from the line between the codes of two test images.

    z_t = (1 - t) z₀ + t z₁, with the label likewise where the model takes it: the ends are t = 0
    and 1, between them lie t = 1/4, 1/2 and 3/4. `n` random pairs of test images; the confidence is
    the largest probability that a classifier of the data's labels gives.

    Source: Berthelot et al., ICLR 2019, who judge interpolations by what they look like.

    Raises:
        UserError: n is not an integer >= 1, seed not one >= 0, or there are too few test images.
        NotApplicable: images have several labels each, or none; the code is no vector.
    """

    def __init__(self, cache: str, n: int = 1000, seed: int = 0):
        self.cache = Path(cache).expanduser()
        self.n = check_int("evaluator.interpolation.n", n)
        self.seed = check_int("evaluator.interpolation.seed", seed, minimum=0)

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        loaded.check_can_generate()
        images = loaded.data.images
        classifier = load_or_train_classifier(images, self.cache)
        test = loaded.data.split("test")
        if len(test) < 2:
            raise UserError(f"{images.title} has {len(test)} test image, and a line has two ends")
        order = torch.randperm(len(test), generator=generator(self.seed, "interpolation"))
        pairs = order[: min(2 * self.n, len(test) // 2 * 2)].view(2, -1)
        codes, labels = loaded.encode_split(test)[pairs], test.labels[pairs].float()
        rows = {
            place: {"label confidence": mean_confidence(loaded, classifier, codes, labels, shares)}
            for place, shares in SHARES.items()
        }
        title = f"{loaded.run.name}: images between the codes of {pairs.shape[1]} pairs of test "
        return Evaluation(f"{title}images of {images.title}, seed {self.seed}", rows)


def mean_confidence(
    loaded: LoadedRun,
    classifier: FeatureClassifier,
    codes: Tensor,
    labels: Tensor,
    shares: tuple[float, ...],
) -> float:
    """The mean label confidence of images at shares of the way between codes (2, n, latent)."""
    images = [loaded.decode(torch.lerp(*codes, t), torch.lerp(*labels, t)) for t in shares]
    _, probability = classifier.classify(torch.cat(images))
    return float(probability.max(1).values.mean())
