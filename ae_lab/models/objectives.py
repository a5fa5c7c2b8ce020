"""What training minimises: Σ weight · term(output, model).

A term sums over dimensions and averages over the batch, the same in training, validation and test.
A new term is a subclass of `LossTerm` and an entry in a file of `conf/objective/`.
"""

import math
from functools import reduce
from operator import add

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError, check_float
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.likelihoods import Likelihood


class LossTerm(nn.Module):
    """One addend of the objective: `forward(output, model)` returns a scalar, unweighted.

    `requires` names the bottleneck's outputs that it needs.

    Raises:
        UserError: the weight is negative or not finite.
    """

    requires = frozenset()

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = check_float("weight", weight)

    def current_weight(self, model) -> float:
        """The weight at this moment of training."""
        return self.weight

    def check(self, model) -> None:
        """Raise a UserError where the model does not have what the term is about."""


class SquaredError(LossTerm):
    """Squared error: Σ over pixels of (reconstruction - clean)², mean over the batch."""

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        clean = output.clean.expand_as(output.reconstruction)
        # One fused kernel: a third of the time of subtracting, squaring and adding up.
        error = F.mse_loss(output.reconstruction, clean, reduction="sum")
        return error / output.reconstruction.shape[:-3].numel()


class PSNRLoss(LossTerm):
    """The mean over the batch of 10·log10(MSE + 1e-8), MSE per image: minus its PSNR, in dB.

    Images that are nearly right count as much as those that are far off, so that one network can
    learn weak and strong corruptions together.

    Source: Chen et al., CVPRW 2021 (HINet).
    """

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        error = (output.reconstruction - output.clean).square().flatten(-3).mean(-1)
        return 10 * (error + 1e-8).log10().mean()


class NegativeLogLikelihood(LossTerm):
    """-log p(clean | z) in nats, mean over the batch."""

    def __init__(self, likelihood: Likelihood, weight: float = 1.0):
        super().__init__(weight)
        self.likelihood = likelihood

    def check(self, model) -> None:
        self.likelihood.check(model)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        return -self.likelihood.log_prob(output).mean()


class KL(LossTerm):
    """KL(q(z | x) ‖ p(z)) in nats, Σ over groups of dimensions, mean over the batch.

    A weight other than 1 makes it a β-VAE. Over the first `warmup` of all steps, a share, the
    weight rises from 0. Each group counts for at least `free_bits` nats, so that none is given up
    early: each dimension is a group where the KL has a closed form, all of a code are one where it
    is an estimate. `key` names the bottleneck's output: all its groups, or those of one level.

    Source: Higgins et al., ICLR 2017 (β); Sønderby et al., NeurIPS 2016 (warm-up); Kingma et al.,
    NeurIPS 2016 (free bits).

    Raises:
        UserError: warmup is not in [0, 1], or free_bits is negative.
    """

    def __init__(
        self, weight: float = 1.0, warmup: float = 0.0, free_bits: float = 0.0, key: str = "kl"
    ):
        super().__init__(weight)
        self.key, self.requires = key, frozenset({key})
        self.warmup = check_float("warmup", warmup, high=1.0)
        self.free_bits = check_float("free_bits", free_bits)

    def current_weight(self, model) -> float:
        rising = model.training and model.progress < self.warmup
        return self.weight * model.progress / self.warmup if rising else self.weight

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        return output.bottleneck[self.key].mean(0).clamp_min(self.free_bits).sum()


class IWAELoss(LossTerm):
    """-log (1/n) Σ over n codes of p(x | z) p(z) / q(z | x) in nats, mean over the batch.

    One term that is a whole bound: -ELBO with one code, tighter with each more.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016.
    """

    requires = frozenset({"log_ratio"})

    def __init__(self, likelihood: Likelihood, weight: float = 1.0):
        super().__init__(weight)
        self.likelihood = likelihood

    def check(self, model) -> None:
        self.likelihood.check(model)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        weights = self.likelihood.log_prob(output) + output.bottleneck["log_ratio"]
        weights = weights.reshape(-1, weights.shape[-1])
        return (math.log(len(weights)) - torch.logsumexp(weights, dim=0)).mean()


class DeadUnitLoss(LossTerm):
    """Squared error of what the code and the dead units decode to together, the code held fixed.

    Dead units so learn to explain what the others leave over; 0 while none is dead. For a linear
    decoder it is ‖e - ê‖² of the residual e and what the dead units make of it.

    Source: Gao et al., Scaling and evaluating sparse autoencoders, 2024.
    """

    requires = frozenset({"dead_code"})

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        dead_code = output.bottleneck["dead_code"]
        both = output.code.detach() + dead_code
        images = model.output(model.decode(both, output.label), output.corrupted, output.side)
        error = F.mse_loss(images.to(output.clean.dtype), output.clean, reduction="sum")
        return error / len(output.clean) * (dead_code != 0).any()


class Commitment(LossTerm):
    """|t - stop_gradient(q)|² of each token t and its code q, Σ over tokens, mean over the batch.

    It keeps tokens near the codes that they chose. Source: van den Oord, Vinyals & Kavukcuoglu,
    NeurIPS 2017.
    """

    requires = frozenset({"commitment"})

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        return output.bottleneck["commitment"].mean()


class Objective(nn.Module):
    """The weighted sum of named terms.

    `forward(output, model)` returns (total, {name: unweighted value}).

    Raises:
        UserError: no term has a weight above zero.
    """

    def __init__(self, **terms: LossTerm):
        super().__init__()
        if math.isclose(sum(term.weight for term in terms.values()), 0.0):
            raise UserError("the objective is empty: give one of its terms a weight above 0")
        self.terms = nn.ModuleDict(terms)
        self.requires = frozenset().union(*(term.requires for term in terms.values()))

    @property
    def likelihood(self) -> Likelihood | None:
        """p(clean | z), where the objective has one."""
        return next((part for part in self.modules() if isinstance(part, Likelihood)), None)

    def forward(self, output: AutoencoderOutput, model) -> tuple[Tensor, dict[str, Tensor]]:
        values = {name: term(output, model) for name, term in self.terms.items()}
        weights = {name: self.terms[name].current_weight(model) for name in values}
        # A weight of 1 costs a small network a per cent of its step, forward and backward.
        weighted = (v if weights[name] == 1 else weights[name] * v for name, v in values.items())
        return reduce(add, weighted), values
