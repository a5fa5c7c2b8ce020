"""Terms of the objective that shape the code, or the maps to and from it.

Each adds to any objective by an entry in its file; `conf/objective/` has one for each family.
"""

import math

import torch
from torch import Tensor, nn

from ae_lab.core.errors import UserError, check_choice, check_float, check_int
from ae_lab.core.hardware import full_precision, widen
from ae_lab.models.gaussians import gaussian_log_prob
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.networks.layers import evaluating
from ae_lab.models.objectives import LossTerm
from ae_lab.models.priors import check_prior, draw_prior

EXACT = 8  # dimensions of the code up to which a Jacobian is computed, not estimated
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of kernels, which are summed over them


class SparsityKL(LossTerm):
    """Σ over units j of KL(ρ ‖ ρ̂_j) between Bernoulli variables, in nats.

    ρ̂_j is the mean of unit j of the code over the batch, ρ the `target`. Units lie in (0, 1).

    Source: Ng, Sparse autoencoder, CS294A lecture notes, 2011.

    Raises:
        UserError: the target is not in (0, 1), or the code is not bounded.
    """

    def __init__(self, target: float = 0.05, weight: float = 1.0):
        super().__init__(weight)
        self.target = check_float("target", target, high=0.5, exclusive=True)

    def check(self, model) -> None:
        if not isinstance(getattr(model.bottleneck, "activation", None), nn.Sigmoid):
            raise UserError(
                "this sparsity needs codes in (0, 1): model.bottleneck.activation=sigmoid"
            )

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        mean = widen(output.code).flatten(1).mean(0).clamp(1e-6, 1 - 1e-6)
        off, on = 1 - self.target, self.target
        return (on * (on / mean).log() + off * (off / (1 - mean)).log()).sum()


class CodeNorm(LossTerm):
    """Σ over dimensions of |z|^p / p, mean over the batch: p = 1 makes codes sparse, p = 2 small.

    Source: p = 1: Ng, 2011; p = 2: Ghosh et al., ICLR 2020 (RAE).

    Raises:
        UserError: p is neither 1 nor 2.
    """

    def __init__(self, p: int = 2, weight: float = 1.0):
        super().__init__(weight)
        self.p = check_int("p", p)
        check_choice("p", p, {1: None, 2: None})

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        code = widen(output.code).flatten(1)
        return (code.abs() ** self.p / self.p).sum(1).mean()


class WeightNorm(LossTerm):
    """‖θ‖², the squared norm of all weights of the decoder.

    Source: Ghosh et al., ICLR 2020 (RAE-L2).
    """

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        return sum(weight.square().sum() for weight in model.decoder.parameters())


class JacobianNorm(LossTerm):
    """‖J‖²_F of the encoder at its input, or of the decoder at the code, mean over the batch.

    Encoder: J = ∂z/∂x̃, and ‖J‖² = Σ over i of ‖Jᵀe_i‖². Decoder: J = ∂reconstruction/∂z, and ‖J‖² =
    Σ over i of ‖J e_i‖². The sum goes over all dimensions of the code if they are at most 8. For
    more, Hutchinson's estimate E ‖Jv‖² with v ~ N(0, I) takes `probes` draws. In float32, and with
    normalisation and dropout as in evaluation, since else images would depend on each other.

    Source: encoder: Rifai et al., ICML 2011; decoder: Ghosh et al., ICLR 2020 (RAE-GP).

    Raises:
        UserError: an unknown part, or probes is not an integer >= 1.
    """

    def __init__(self, part: str = "encoder", probes: int = 1, weight: float = 1.0):
        super().__init__(weight)
        self.norm = check_choice("part", part, {"encoder": encoder_norm, "decoder": decoder_norm})
        self.probes = check_int("probes", probes)

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        # Derivatives are wanted in validation too, where Lightning forbids them.
        with (
            torch.inference_mode(False),
            evaluating(model),
            full_precision(output.code.device),
            torch.compiler.set_stance("force_eager"),  # torch.func cannot follow compiled parts
        ):
            return self.norm(output, model, self.directions(output.code.to(model.dtype))).mean()

    def directions(self, code: Tensor) -> Tensor:
        """The vectors v, (n, B, *code)."""
        if code[0].numel() <= EXACT:
            return unit_vectors(code)
        rows = torch.randn(self.probes, *code.shape, device=code.device, dtype=code.dtype)
        return rows / self.probes**0.5


def unit_vectors(code: Tensor) -> Tensor:
    """The unit vectors of all dimensions of codes (B, *code), one set for each, (n, B, *code)."""
    size = code[0].numel()
    rows = (
        torch.eye(size, device=code.device, dtype=code.dtype).unsqueeze(1).expand(-1, len(code), -1)
    )
    return rows.reshape(size, *code.shape)


def pull_back(output: AutoencoderOutput, model, directions: Tensor) -> Tensor:
    """Jᵀv of the encoder for each direction v of the code (n, B, *code), (n, B, C, H, W)."""
    label, side = output.label.clone(), output.side
    _, product = torch.func.vjp(
        lambda x: model.encode(x, label, side=side)[0], output.corrupted.clone()
    )
    return torch.func.vmap(lambda v: product(v)[0])(directions)


def encoder_norm(output: AutoencoderOutput, model, directions: Tensor) -> Tensor:
    """Σ over directions (n, B, *code) of ‖Jᵀv‖² of the encoder, (B,)."""
    return pull_back(output, model, directions).square().flatten(2).sum((0, 2))


def decoder_norm(output: AutoencoderOutput, model, directions: Tensor) -> Tensor:
    """Σ over directions (n, B, *code) of ‖Jv‖² of the decoder, (B,)."""
    label, code = output.label.clone(), output.code.to(model.dtype).clone()
    changes = torch.func.vmap(
        lambda v: torch.func.jvp(lambda z: model.decode_images(z, label), (code,), (v,))[1]
    )(directions)
    return changes.square().flatten(2).sum((0, 2))


class MaximumMeanDiscrepancy(LossTerm):
    """MMD² = E k(z, z') + E k(p, p') - 2 E k(z, p) of the batch's codes z and as many draws p of
    the prior, with all pairs in the means, so that equal samples give 0. The kernel k is `imq`, the
    inverse multiquadric, or `rbf`, the radial basis, with C = 2ds for d dimensions and a scale s.

    Source: Tolstikhin et al., ICLR 2018 (WAE); Zhao, Song & Ermon, AAAI 2019 (InfoVAE).

    Raises:
        UserError: an unknown kernel; a code that has no prior to draw from.
    """

    def __init__(self, kernel: str = "imq", weight: float = 1.0):
        super().__init__(weight)
        self.kernel = check_choice("kernel", kernel, KERNELS)

    def check(self, model) -> None:
        check_prior(model, "this objective compares codes with a prior")

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        code = widen(output.code)
        label = output.label.expand(*code.shape[:-1], -1).flatten(0, -2)
        return squared_mmd(code.flatten(0, -2), draw_prior(label, model), self.kernel)


def squared_mmd(x: Tensor, y: Tensor, kernel) -> Tensor:
    """MMD² of two samples (n, d) and (m, d), by all pairs."""
    return kernel(x, x).mean() + kernel(y, y).mean() - 2 * kernel(x, y).mean()


def inverse_multiquadric(x: Tensor, y: Tensor) -> Tensor:
    """Σ over scales of C / (C + ‖x - y‖²), (n, m)."""
    distance, size = squared_distance(x, y), 2 * x.shape[1]
    return sum(size * scale / (size * scale + distance) for scale in SCALES)


def radial_basis(x: Tensor, y: Tensor) -> Tensor:
    """Σ over scales of exp(-‖x - y‖² / C), (n, m)."""
    distance, size = squared_distance(x, y), 2 * x.shape[1]
    return sum((-distance / (size * scale)).exp() for scale in SCALES)


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i - y_j‖², (n, m); by differences, since cdist has no gradient at 0."""
    return (x.unsqueeze(1) - y).square().sum(2)


KERNELS = {"imq": inverse_multiquadric, "rbf": radial_basis}


class TotalCorrelation(LossTerm):
    """TC = E log q(z) - Σ over dimensions d of log q(z_d), in nats: 0 if they are independent.

    q(z) = 1/B Σ over the batch's images j of q(z | x_j) stands for the codes of all images. That is
    minibatch-weighted sampling but for a constant. Added to -ELBO with weight β - 1, as a part of
    its KL, it makes a β-TCVAE.

    Source: Chen et al., NeurIPS 2018.
    """

    requires = frozenset({"mean", "log_variance"})

    def forward(self, output: AutoencoderOutput, model) -> Tensor:
        mean, log_variance = (output.bottleneck[name] for name in ("mean", "log_variance"))
        code = output.code if output.code.ndim == mean.ndim else output.code[0]
        pairs = code.unsqueeze(1).unsqueeze(3), mean.unsqueeze(2), log_variance.unsqueeze(2)
        each = gaussian_log_prob(*pairs)  # (B, B, latent): of code i given image j
        joint = each.sum(2).logsumexp(1)
        marginals = each.logsumexp(1).sum(1)
        return (joint - marginals).mean() + math.log(len(code)) * (code.shape[1] - 1)
