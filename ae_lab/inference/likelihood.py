"""How probable a variational model finds images: bounds on log p(x), in nats."""

import math

import torch
from torch import Tensor

from ae_lab.data import Batch
from ae_lab.inference.loaded_run import NotApplicable
from ae_lab.models import Autoencoder

MAX_CODES = 20_000  # in memory at once
NUM_DECODED = 2_000  # at once, so that a layer's values stay in a core's cache


def check_has_likelihood(model: Autoencoder, name: str) -> None:
    """Check that a model, which the message calls `name`, is variational.

    Raises:
        NotApplicable: it has no likelihood, or its bottleneck no distribution.
    """
    if model.objective.likelihood is None or "log_ratio" not in model.bottleneck.outputs:
        raise NotApplicable(f"{name} has no likelihood: take model=vae or model=iwae")


@torch.no_grad()
def bound_log_likelihood(model: Autoencoder, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
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


def log_weights(model: Autoencoder, batch: Batch) -> Tensor:
    """log w of each of the bottleneck's codes for each image, (samples, B)."""
    code, outputs, bypass = model.encode(batch.corrupted, batch.label, draw=True, side=batch.side)
    codes = code.reshape(-1, len(batch.index), *model.bottleneck.shape)
    parts = codes.split(max(1, NUM_DECODED // len(batch.index)))
    likelihood = model.objective.likelihood
    log_prob = [likelihood.log_prob(model.decode_batch(batch, z, {}, bypass)) for z in parts]
    return torch.cat(log_prob) + outputs["log_ratio"].reshape(-1, len(batch.index))
