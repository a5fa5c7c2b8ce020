"""How probable a variational run finds images: bounds on log p(x), in nats.

For numbers that compare with the literature on MNIST, train with `data.binarize=true`: the test
set is then one draw of our own, from a fixed seed, not the file that the field uses.
"""

import math

import torch
from torch import Tensor

from ae_lab.core.errors import check_int
from ae_lab.core.randomness import reseed
from ae_lab.data import Batch
from ae_lab.evaluation.evaluator import Evaluation, summarize
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable

MAX_CODES = 20_000  # in memory at once
NUM_DECODED = 2_000  # at once, so that a layer's values stay in a core's cache


class LikelihoodEvaluator:
    """The ELBO, and the importance-weighted bound with `samples` codes for each of `n` images.

    Raises:
        UserError: samples or n is not an integer >= 1, seed is not one >= 0.
        NotApplicable: the model has no likelihood.
    """

    def __init__(self, samples: int = 5000, n: int = 1000, split: str = "test", seed: int = 0):
        self.samples = check_int("evaluator.likelihood.samples", samples)
        self.n = check_int("evaluator.likelihood.n", n)
        self.split, self.seed = split, check_int("evaluator.likelihood.seed", seed, minimum=0)

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        check_has_likelihood(loaded)
        batch = loaded.data.eval_batch(self.split, self.n)
        reseed(loaded.model.device, self.seed, "likelihood")
        elbo, log_p = bound_log_likelihood(loaded.model, batch, self.samples)
        values = {"elbo": elbo, "log_p": log_p}
        title = f"{loaded.run.name}: bounds on log p(x), {len(elbo)} images of the {self.split} "
        title += f"split of {loaded.data.images.title}"
        return Evaluation(title, {f"{self.samples:,} codes": summarize(values)}, per_image=values)


def check_has_likelihood(loaded: LoadedRun) -> None:
    """Check that a model is variational.

    Raises:
        NotApplicable: it has no likelihood, or its bottleneck no distribution.
    """
    model = loaded.model
    if model.objective.likelihood is None or "log_ratio" not in model.bottleneck.outputs:
        raise NotApplicable(f"{loaded.run.path} has no likelihood: take model=vae or model=iwae")


@torch.no_grad()
def bound_log_likelihood(model, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
    """For each image (B,): the mean over codes of log w, and log of the mean of w,

        w = p(x | z) p(z) / q(z | x),  z ~ q(z | x).

    The first estimates the ELBO; the second is the importance-weighted bound.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016.
    """
    configured, bounds = model.bottleneck.samples, []
    codes = max(1, min(samples, MAX_CODES))
    images = max(1, MAX_CODES // codes)
    try:
        for start in range(0, len(batch.index), images):
            part = batch.part(slice(start, start + images))
            weights = []
            for done in range(0, samples, codes):
                model.bottleneck.samples = min(codes, samples - done)
                weights.append(log_weights(model, part))
            log_w = torch.cat(weights)
            bounds.append((log_w.mean(0), log_w.logsumexp(0) - math.log(samples)))
    finally:
        model.bottleneck.samples = configured
    elbo, log_p = (torch.cat(values) for values in zip(*bounds, strict=True))
    return elbo, log_p


def log_weights(model, batch: Batch) -> Tensor:
    """log w of each of the bottleneck's codes for each image, (samples, B)."""
    code, outputs, bypass = model.encode(batch.corrupted, batch.label, draw=True, side=batch.side)
    codes = code.reshape(-1, len(batch.index), *model.bottleneck.shape)
    parts = codes.split(max(1, NUM_DECODED // len(batch.index)))
    likelihood = model.objective.likelihood
    log_prob = [likelihood.log_prob(model.decode_batch(batch, z, {}, bypass)) for z in parts]
    return torch.cat(log_prob) + outputs["log_ratio"].reshape(-1, len(batch.index))
