"""Priors: what the codes of a variational model are compared with, and drawn from.

A new prior is a subclass of `Prior`, and a `_target_` in `model.bottleneck.prior`.
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.core.hardware import full_precision, widen
from ae_lab.models.gaussians import draw_gaussian, gaussian_kl, gaussian_log_prob
from ae_lab.models.networks.layers import evaluating


class Prior(nn.Module):
    """p(z), or p(z | y) of the label y; built as `prior(latent, classes)`."""

    uses_label = False

    def connect(self, model) -> None:
        """Take from the model, as it is built, what only the whole of it knows.

        Raises:
            UserError: the model does not have it.
        """

    def log_prob(self, code: Tensor, label: Tensor) -> Tensor:
        """log p(z) in nats of codes (..., B, latent), (..., B)."""
        raise NotImplementedError

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        """One code for each label (n, K), (n, latent)."""
        raise NotImplementedError

    def kl(self, mean: Tensor, log_variance: Tensor, label: Tensor) -> Tensor | None:
        """KL(q ‖ p) in nats of q = N(mean, diag exp(log_variance)), of each dimension, (B, latent);
        None where it has no closed form."""


class GaussianPrior(Prior):
    """N(m, diag s²): `forward(label)` returns m and log s². The KL of each dimension is

    ½ [(μ - m)²/s² + σ²/s² - 1 - log(σ²/s²)].
    """

    def log_prob(self, code: Tensor, label: Tensor) -> Tensor:
        return gaussian_log_prob(code, *self(label))

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        return draw_gaussian(len(label), *self(label), generator)

    def kl(self, mean: Tensor, log_variance: Tensor, label: Tensor) -> Tensor:
        return gaussian_kl(mean, log_variance, *self(label))


class StandardPrior(GaussianPrior):
    """p(z) = N(0, I)."""

    def __init__(self, latent: int, classes: int):
        super().__init__()
        self.latent = latent

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (1, latent) each."""
        nothing = label.new_zeros(1, self.latent)
        return nothing, nothing


class LabelPrior(GaussianPrior):
    """p(z | y) = N(m, diag s²), m and log s² linear in the label y; N(0, I) to start with.

    Source: Sohn, Lee & Yan, NeurIPS 2015.
    """

    uses_label = True

    def __init__(self, latent: int, classes: int):
        super().__init__()
        self.head = nn.Linear(classes, 2 * latent, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent) each."""
        return widen(self.head(label)).chunk(2, dim=1)


class VampPrior(Prior):
    """p(z) = 1/K Σ over k of q(z | u_k), the mixture of the posteriors of `components` inputs u_k.

    These pseudo-inputs are learned. They are images as the encoder gets them, with channels of the
    label where it gets those: the sigmoid of `logits` that start as draws of N(0, 1). The encoder
    sees them without dropout and normalised by its running means, since they are no images of the
    batch. The KL to a mixture has no closed form.

    Source: Tomczak & Welling, AISTATS 2018.

    Raises:
        UserError: components is not an integer >= 1; the posterior is no Gaussian, so that its
            density at codes of other images would take too long.
    """

    def __init__(self, latent: int, classes: int, components: int = 500):
        super().__init__()
        self.components = check_int("components", components)

    def connect(self, model) -> None:
        if not hasattr(model.bottleneck, "posterior"):
            raise UserError(
                "the prior mixes posteriors that are Gaussians, and those of "
                f"{type(model.bottleneck).__name__} are not: take bottleneck=gaussian or ladder"
            )
        self.logits = nn.Parameter(torch.randn(self.components, *model.input_shape))
        # In a tuple, where torch does not look for modules: their weights are the model's.
        self.parts = (model.encoder, model.bottleneck)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each component, (K, latent) each."""
        encoder, bottleneck = self.parts
        with evaluating(encoder):
            features, _ = encoder(self.logits.sigmoid())
        return bottleneck.posterior(features)

    def log_prob(self, code: Tensor, label: Tensor) -> Tensor:
        mean, log_variance = self()
        with full_precision(code.device):
            # Two products of matrices: differences of all pairs would be (..., B, K, latent).
            precision = (-log_variance).exp()
            squares = code.square() @ precision.T - 2 * code @ (mean * precision).T
            constants = mean.square() * precision + log_variance + math.log(2 * math.pi)
            each = -0.5 * (squares + constants.sum(1))
            return each.logsumexp(-1) - math.log(self.components)

    def sample(self, label: Tensor, generator: Generator) -> Tensor:
        mean, log_variance = self()
        chosen = torch.randint(self.components, (len(label),), generator=generator)
        chosen = chosen.to(mean.device)
        return draw_gaussian(len(label), mean[chosen], log_variance[chosen], generator)


PRIORS = {"standard": StandardPrior, "label": LabelPrior}


def build_prior(prior: str | Callable[..., Prior], latent: int, classes: int) -> Prior:
    """A prior by a name of `PRIORS`, or by the function that makes it.

    Raises:
        UserError: an unknown name.
    """
    make = prior if callable(prior) else check_choice("prior", prior, PRIORS)
    return make(latent, classes)


def estimate_kl(log_ratio: Tensor) -> Tensor:
    """KL(q ‖ p) from log p(z) - log q(z) of codes (..., B), of the whole code, (B, 1)."""
    return -log_ratio.reshape(-1, log_ratio.shape[-1]).mean(0).unsqueeze(1)


def check_prior(model, why: str) -> None:
    """Check that a model's codes have a prior to draw from.

    Raises:
        UserError: they have none; it begins with why one is needed.
    """
    if not model.bottleneck.has_prior:
        raise UserError(
            f"{why}, which the bottleneck does not have: take model.bottleneck.has_prior=true, or "
            "bottleneck=gaussian"
        )


def draw_prior(label: Tensor, model) -> Tensor:
    """A code of the prior for each label (n, K), (n, latent), without gradients.

    Drawn from the generator that each step seeds.
    """
    return model.bottleneck.sample(label, torch.default_generator).detach()
