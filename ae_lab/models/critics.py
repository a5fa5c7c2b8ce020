"""Critics, which tell real inputs from fake ones, and the terms that play against them."""

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ae_lab.core.errors import UserError
from ae_lab.core.hardware import widen
from ae_lab.models.interfaces import AutoencoderOutput, Encoder
from ae_lab.models.networks.layers import linear
from ae_lab.models.objectives import LossTerm
from ae_lab.models.priors import check_prior, draw_prior


class Critic(nn.Module):
    """D(x): how real an input is, the logit of a network and one dense layer on its features.

    It learns to minimise, in nats,

        E over real x of -log σ(D(x))  +  E over fake x of -log(1 - σ(D(x))).

    The best critic is D(x) = log p_real(x) / p_fake(x); its loss is 2·log 2 where both are the
    same. A kind of critic says what is real and what is fake. `network` is an encoder, built with
    the shape of the inputs, without the batch.

    Source: Goodfellow et al., NeurIPS 2014.
    """

    def __init__(self, shape: Sequence[int], network: Callable[..., Encoder]):
        super().__init__()
        self.network = network(tuple(shape))
        self.head = linear(prod(self.network.features), 1, gain=1.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (B, *shape) → logits (B,), and the features (B, n) that they are linear in."""
        features = self.network(x)[0].flatten(1)
        return widen(self.head(features)).squeeze(1), widen(features)

    def judge(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same with its weights held fixed: gradients reach the inputs alone."""
        weights = {name: weight.detach() for name, weight in self.named_parameters()}
        return functional_call(self, weights, (x,))

    def real(self, output: AutoencoderOutput, model) -> Tensor:
        """Real inputs, (n, *shape)."""
        raise NotImplementedError

    def fake(self, output: AutoencoderOutput, model) -> Tensor:
        """Fake inputs, (n, *shape); gradients lead to the weights that make them."""
        raise NotImplementedError

    def loss(self, output: AutoencoderOutput, model) -> Tensor:
        """What the critic minimises. Gradients reach its own weights alone."""
        on_real, _ = self(self.real(output, model).detach())
        on_fake, _ = self(self.fake(output, model).detach())
        return cross_entropy(on_real, 1.0) + cross_entropy(on_fake, 0.0)

    def check(self, model) -> None:
        """Check that there is something to criticise, and that something learns from it.

        Raises:
            UserError: there is not.
        """
        terms = [term for term in model.objective.modules() if isinstance(term, AdversarialTerm)]
        if not terms:
            raise UserError(
                "no term of the objective learns from the critic: take objective=aae, vaegan or "
                "factorvae, that of the model"
            )
        for term in terms:
            if not isinstance(self, term.critics):
                names = " or ".join(kind.__name__ for kind in term.critics)
                raise UserError(
                    f"{type(term).__name__} learns from a {names}, and the model has a "
                    f"{type(self).__name__}: choose model and objective by the same name"
                )
        if not model.can_generate:
            raise UserError(
                "a critic needs a decoder that gets a code of one vector alone: take body=mlp or "
                "body=cnn, and an output that needs the code alone, as sigmoid"
            )


class PriorCritic(Critic):
    """Real: draws of the prior p(z). Fake: the codes of the batch.

    Source: Makhzani et al., Adversarial Autoencoders, 2015.

    Raises:
        UserError: see `check`.
    """

    def __init__(self, code: Sequence[int], image: Sequence[int], network: Callable[..., Encoder]):
        super().__init__(code, network)

    def check(self, model) -> None:
        super().check(model)
        check_prior(model, "the critic compares with draws of a prior")

    def real(self, output: AutoencoderOutput, model) -> Tensor:
        return draw_prior(output.label, model)

    def fake(self, output: AutoencoderOutput, model) -> Tensor:
        return output.code.flatten(0, -2)


class ImageCritic(Critic):
    """Real: clean images. Fake: reconstructions, and the images of draws of the prior p(z).

    The codes of reconstructions are held fixed: what learns from fakes is the decoder.

    Source: Larsen et al., ICML 2016.

    Raises:
        UserError: see `check`.
    """

    def __init__(self, code: Sequence[int], image: Sequence[int], network: Callable[..., Encoder]):
        super().__init__(image, network)

    def check(self, model) -> None:
        super().check(model)
        check_prior(model, "the critic compares with draws of a prior")

    def real(self, output: AutoencoderOutput, model) -> Tensor:
        return output.clean

    def fake(self, output: AutoencoderOutput, model) -> Tensor:
        reconstructed = model.decode_images(output.code.detach(), output.label)
        sampled = model.decode_images(draw_prior(output.label, model), output.label)
        return torch.cat([reconstructed.flatten(0, -4), sampled])


class PermutationCritic(Critic):
    """Real: codes of the batch. Fake: the same, each dimension permuted over the batch.

    Permuted codes are draws of the product of the marginals q(z_d), so the best critic is
    D(z) = log q(z) / Π over d of q(z_d). Kim & Mnih permute another batch than they criticise;
    here it is the same.

    Source: Kim & Mnih, ICML 2018.

    Raises:
        UserError: see `check`.
    """

    def __init__(self, code: Sequence[int], image: Sequence[int], network: Callable[..., Encoder]):
        super().__init__(code, network)

    def real(self, output: AutoencoderOutput, model) -> Tensor:
        return output.code.flatten(0, -2)

    def fake(self, output: AutoencoderOutput, model) -> Tensor:
        return permute_dimensions(output.code.flatten(0, -2))


class AdversarialTerm(LossTerm):
    """A term that looks at the model's critic, whose weights it leaves as they are.

    `critics` are the kinds of critic that it makes sense for.
    """

    critics: tuple[type[Critic], ...] = (Critic,)

    def check(self, model) -> None:
        if not model.has_critic:
            raise UserError(
                f"{type(self).__name__} needs a model with a critic: take model=aae, model=vaegan "
                "or model=factorvae"
            )


class GeneratorLoss(AdversarialTerm):
    """E over fake x of -log σ(D(x)) in nats: how badly fakes pass for real.

    It does not saturate where the critic is sure, as log(1 - σ(D(x))) does.

    Source: Goodfellow et al., NeurIPS 2014.
    """

    critics = (PriorCritic, ImageCritic)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        logits, _ = model.critic.judge(model.critic.fake(output, model))
        return cross_entropy(logits, 1.0)


class FeatureError(AdversarialTerm):
    """½ ‖D_l(clean) - D_l(reconstruction)‖² of the critic's features D_l, mean over the batch.

    But for a constant, -log p of the image's features under a Gaussian of variance 1, in nats.

    Source: Larsen et al., ICML 2016.
    """

    critics = (ImageCritic,)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        _, clean = model.critic.judge(output.clean)
        _, reconstruction = model.critic.judge(output.reconstruction.flatten(0, -4))
        reconstruction = reconstruction.unflatten(0, (-1, len(clean)))
        return 0.5 * (reconstruction - clean).square().sum(-1).mean()


class AdversarialTotalCorrelation(AdversarialTerm):
    """TC = KL(q(z) ‖ Π over d of q(z_d)) ≈ E over codes of D(z), in nats.

    It trusts the critic to be the best one, D(z) = log q(z) / Π over d of q(z_d).

    Source: Kim & Mnih, ICML 2018.
    """

    critics = (PermutationCritic,)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        logits, _ = model.critic.judge(model.critic.real(output, model))
        return logits.mean()


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    """-log of the probability that σ(logits) gives to the target, 1 or 0, mean over the batch."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def permute_dimensions(codes: Tensor) -> Tensor:
    """Codes (n, d) with each dimension permuted over the n, independently of the others."""
    return codes.gather(0, torch.rand_like(codes, dtype=torch.float32).argsort(0))
