"""What training minimises: Σ weight · term(pass, model).

A term sums over dimensions and averages over the batch, the same in training, validation and test.
A new term is a subclass of `Term` and an entry in a file of `conf/objective/`.
"""

import math
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.errors import UserError, real
from ae_lab.nets.layers import sigmoid


class Term(nn.Module):
    """One addend of the objective: `forward(pass, model)` returns a scalar, unweighted.

    `needs` names what the bottleneck has to tell.

    Raises:
        UserError: the weight is negative or not finite.
    """

    needs = frozenset()

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = real("a term's weight", weight)

    def weigh(self, model) -> float:
        """The weight it has now."""
        return self.weight

    def check(self, model) -> None:
        """Raise a UserError where the model does not have what the term is about."""


class SquaredError(Term):
    """Squared error: Σ over pixels of (reconstruction - clean)², mean over the batch."""

    def forward(self, out, model) -> Tensor:
        clean = out.clean.expand_as(out.reconstruction)
        # One fused kernel: a third of the time of subtracting, squaring and adding up.
        error = F.mse_loss(out.reconstruction, clean, reduction="sum")
        return error / out.reconstruction.shape[:-3].numel()


class LogError(Term):
    """The mean over the batch of 10·log10(MSE + 1e-8), MSE per image: minus its PSNR, in dB.

    Images that are nearly right count as much as those that are far off, so that one network can
    learn weak and strong corruptions together.

    Source: Chen et al., CVPRW 2021 (HINet), where it is called PSNR loss.
    """

    def forward(self, out, model) -> Tensor:
        error = (out.reconstruction - out.clean).square().flatten(-3).mean(-1)
        return 10 * (error + 1e-8).log10().mean()


class Likelihood(Term):
    """-log p(clean | z) in nats, mean over the batch; `log_density` gives it for each code."""

    def log_density(self, out, model) -> Tensor:
        """log p(clean | z), (B,) or (K, B)."""
        raise NotImplementedError

    def forward(self, out, model) -> Tensor:
        return -self.log_density(out, model).mean()


class BernoulliLikelihood(Likelihood):
    """p(clean | z) = Bernoulli(sigmoid(raw)) for every pixel.

    Pixels between 0 and 1 count as probabilities, as is usual. Needs `output=sigmoid`.

    Source: Kingma & Welling, ICLR 2014, appendix C.1.

    Raises:
        UserError: the model's output is not a sigmoid.
    """

    def check(self, model) -> None:
        if model.output is not sigmoid:
            raise UserError("a Bernoulli likelihood needs output=sigmoid: raw values are logits")

    def log_density(self, out, model) -> Tensor:
        logits = out.raw.to(out.clean.dtype)
        clean = out.clean.expand_as(logits)
        nats = F.binary_cross_entropy_with_logits(logits, clean, reduction="none")
        return -nats.flatten(-3).sum(-1)


class GaussianLikelihood(Likelihood):
    """p(clean | z) = N(reconstruction, sigma²) for every pixel, sigma in units of the pixel range:

    -log p = Σ over pixels of (clean - reconstruction)² / 2σ² + log(σ·√2π)

    Raises:
        UserError: sigma is not a finite number above 0.
    """

    def __init__(self, sigma: float, weight: float = 1.0):
        super().__init__(weight)
        self.sigma = real("sigma", sigma, above=True)

    def log_density(self, out, model) -> Tensor:
        squares = ((out.clean - out.reconstruction) / self.sigma).square()
        constant = math.log(self.sigma * math.sqrt(2 * math.pi))
        return -(0.5 * squares + constant).flatten(-3).sum(-1)


class KL(Term):
    """KL(q(z | x) ‖ p(z)) in nats, Σ over dimensions, mean over the batch.

    A weight other than 1 makes it a β-VAE. Over the first `warmup` of all steps, a share, the
    weight rises from 0. Each dimension counts for at least `free` nats, so that none is given up
    early. `of` names what the bottleneck adds: all its dimensions, or those of one level.

    Source: Higgins et al., ICLR 2017 (β); Sønderby et al., NeurIPS 2016 (warm-up); Kingma et al.,
    NeurIPS 2016 (free bits).

    Raises:
        UserError: warmup is not in [0, 1], or free is negative.
    """

    def __init__(self, weight: float = 1.0, warmup: float = 0.0, free: float = 0.0, of: str = "kl"):
        super().__init__(weight)
        self.of, self.needs = of, frozenset({of})
        self.warmup = real("warmup", warmup, high=1.0)
        self.free = real("free", free)

    def weigh(self, model) -> float:
        rising = model.training and model.progress < self.warmup
        return self.weight * model.progress / self.warmup if rising else self.weight

    def forward(self, out, model) -> Tensor:
        return out.extras[self.of].mean(0).clamp_min(self.free).sum()


class ImportanceBound(Term):
    """-log (1/K) Σ over K codes of p(x | z) p(z) / q(z | x) in nats, mean over the batch.

    One term that is a whole bound: -ELBO with one code, tighter with each more.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016.
    """

    needs = frozenset({"log_ratio"})

    def __init__(self, likelihood: Likelihood, weight: float = 1.0):
        super().__init__(weight)
        self.likelihood = likelihood

    def forward(self, out, model) -> Tensor:
        weights = self.likelihood.log_density(out, model) + out.extras["log_ratio"]
        weights = weights.reshape(-1, weights.shape[-1])
        return (math.log(len(weights)) - torch.logsumexp(weights, dim=0)).mean()


class Objective(nn.Module):
    """The weighted sum of named terms.

    `forward(pass, model)` returns (total, {name: unweighted value}).

    Raises:
        UserError: no term has a weight above zero.
    """

    def __init__(self, **terms: Term):
        super().__init__()
        if math.isclose(sum(term.weight for term in terms.values()), 0.0):
            raise UserError("the objective is empty: give one of its terms a weight above 0")
        self.terms = nn.ModuleDict(terms)
        self.needs = frozenset().union(*(term.needs for term in terms.values()))

    @property
    def likelihood(self) -> Likelihood | None:
        """p(clean | z), where the objective has one."""
        return next((part for part in self.modules() if isinstance(part, Likelihood)), None)

    def forward(self, out, model) -> tuple[Tensor, dict[str, Tensor]]:
        values = {name: term(out, model) for name, term in self.terms.items()}
        weights = {name: self.terms[name].weigh(model) for name in values}
        # A weight of 1 costs a small network a per cent of its step, forward and backward.
        weighted = (v if weights[name] == 1 else weights[name] * v for name, v in values.items())
        return reduce(add, weighted), values
