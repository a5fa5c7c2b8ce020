"""Likelihoods: p(clean | z), the distribution of an image's pixels around its reconstruction."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError, check_float
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.networks import layers


class Likelihood(nn.Module):
    """A distribution of pixels, independent of each other given the code.

    `output` names the output map by which raw values become the distribution's mean, where only
    one will do.
    """

    output: str | None = None

    def log_prob(self, output: AutoencoderOutput) -> Tensor:
        """log p(clean | z) in nats, (B,), or (n, B) for n codes of each image."""
        raise NotImplementedError

    def check(self, model) -> None:
        """Raise a UserError where the model's output map does not fit."""
        if self.output and model.output is not layers.output_map(self.output):
            raise UserError(f"{type(self).__name__} needs output={self.output}")


class BernoulliLikelihood(Likelihood):
    """p(clean | z) = Bernoulli(sigmoid(raw)) for every pixel.

    Pixels between 0 and 1 count as probabilities, as is usual.

    Source: Kingma & Welling, ICLR 2014, appendix C.1.
    """

    output = "sigmoid"  # raw values are logits

    def log_prob(self, output: AutoencoderOutput) -> Tensor:
        logits = output.raw.to(output.clean.dtype)
        clean = output.clean.expand_as(logits)
        nats = F.binary_cross_entropy_with_logits(logits, clean, reduction="none")
        return -nats.flatten(-3).sum(-1)


class GaussianLikelihood(Likelihood):
    """p(clean | z) = N(reconstruction, σ²) for every pixel, σ in units of the pixel range:

    -log p = Σ over pixels of (clean - reconstruction)² / 2σ² + log(σ·√2π)

    Raises:
        UserError: sigma is not a finite number above 0.
    """

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = check_float("likelihood.sigma", sigma, exclusive=True)

    def log_prob(self, output: AutoencoderOutput) -> Tensor:
        squares = ((output.clean - output.reconstruction) / self.sigma).square()
        constant = math.log(self.sigma * math.sqrt(2 * math.pi))
        return -(0.5 * squares + constant).flatten(-3).sum(-1)
