"""What training minimises: Σ weight · term(pass, model).

A term sums over dimensions and averages over the batch, the same in training, validation and test.
A new term is a subclass of `Term` and an entry in a file of `conf/objective/`.
"""

import math
from functools import reduce
from operator import add

from torch import Tensor, nn
from torch.nn import functional as F

from ae_lab.errors import UserError, real
from ae_lab.nets.layers import sigmoid


class Term(nn.Module):
    """One addend of the objective: `forward(pass, model)` returns a scalar, unweighted.

    Raises:
        UserError: the weight is negative or not finite.
    """

    def __init__(self, weight: float = 1.0):
        super().__init__()
        self.weight = real("a term's weight", weight)


class SquaredError(Term):
    """Squared error: Σ over pixels of (reconstruction - clean)², mean over the batch."""

    def forward(self, out, model) -> Tensor:
        # One fused kernel: a third of the time of subtracting, squaring and adding up.
        return F.mse_loss(out.reconstruction, out.clean, reduction="sum") / len(out.clean)


class LogError(Term):
    """The mean over the batch of 10·log10(MSE + 1e-8), MSE per image: minus its PSNR, in dB.

    Images that are nearly right count as much as those that are far off, so that one network can
    learn weak and strong corruptions together.

    Source: Chen et al., CVPRW 2021 (HINet), where it is called PSNR loss.
    """

    def forward(self, out, model) -> Tensor:
        error = F.mse_loss(out.reconstruction, out.clean, reduction="none").flatten(1).mean(1)
        return 10 * (error + 1e-8).log10().mean()


class BernoulliLikelihood(Term):
    """-log p(clean | z) with p = Bernoulli(sigmoid(raw)) for every pixel, in nats.

    Pixels between 0 and 1 count as probabilities, as is usual. Needs `output=sigmoid`.

    Source: Kingma & Welling, ICLR 2014, appendix C.1.

    Raises:
        UserError: the model's output is not a sigmoid.
    """

    def forward(self, out, model) -> Tensor:
        if model.output is not sigmoid:
            raise UserError("objective=bernoulli needs output=sigmoid: its raw values are logits")
        logits = out.raw.to(out.clean.dtype)
        nats = F.binary_cross_entropy_with_logits(logits, out.clean, reduction="none")
        return nats.flatten(1).sum(1).mean()


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

    def forward(self, out, model) -> tuple[Tensor, dict[str, Tensor]]:
        values = {name: term(out, model) for name, term in self.terms.items()}
        weighted = (self.terms[name].weight * value for name, value in values.items())
        return reduce(add, weighted), values
