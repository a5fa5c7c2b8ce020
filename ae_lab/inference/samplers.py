"""Where random codes come from: `fit(codes, seed)`, then `sample(n, generator)`.

They make a generator of any autoencoder whose code is a vector. A new sampler is one class and a
file in `conf/sampler/`.
"""

from typing import Protocol

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Generator, Tensor

from ae_lab.core.configuration import CONF
from ae_lab.core.errors import UserError, check_int


class Sampler(Protocol):
    def fit(self, codes: Tensor, seed: int) -> None:
        """Learn where codes (N, latent) lie.

        Raises:
            UserError: they are too few.
        """

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n random codes (n, latent)."""


class Prior:
    """The prior p(z) or p(z | y) of the model itself: its bottleneck draws, nothing is fitted."""


class Normal:
    """N(m, S) with the mean m and the full covariance S of the training codes."""

    def fit(self, codes: Tensor, seed: int) -> None:
        if len(codes) < 2:
            raise UserError(f"{len(codes)} training images do not say where codes lie")
        self.mean = codes.mean(0)
        # In double precision, and with a little added: a dimension of the code may have died, or
        # follow from the others.
        spread = codes.double().T.cov().reshape(codes.shape[1], codes.shape[1])
        jitter = 1e-6 * (1 + spread.diagonal().mean()) * torch.eye(len(spread))
        self.scale = torch.linalg.cholesky(spread + jitter).float()

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.mean + torch.randn(n, len(self.mean), generator=generator) @ self.scale.T


class Mixture:
    """Σ over k of π_k N(m_k, S_k), full covariances, fitted by expectation-maximisation.

    Source: Ghosh et al., ICLR 2020, who generate from deterministic autoencoders with it.

    Raises:
        UserError: components is not a whole number of at least 1.
    """

    def __init__(self, components: int = 10):
        self.components = check_int("components", components)

    def fit(self, codes: Tensor, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        if len(codes) < 2 * self.components:
            raise UserError(
                f"{len(codes)} training images are too few for a mixture of {self.components}: "
                f"give sampler.components={max(1, len(codes) // 2)}, or sampler=normal"
            )
        fitted = GaussianMixture(self.components, reg_covar=1e-6, random_state=seed)
        fitted.fit(codes.double().numpy())
        self.weights = torch.from_numpy(fitted.weights_)
        self.means = torch.from_numpy(fitted.means_).float()
        self.scales = torch.linalg.cholesky(torch.from_numpy(fitted.covariances_)).float()

    def sample(self, n: int, generator: Generator) -> Tensor:
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        draws = torch.randn(n, self.means.shape[1], 1, generator=generator)
        return self.means[k] + (self.scales[k] @ draws).squeeze(2)


def by_name(name: str | None) -> Sampler | Prior | None:
    """The sampler that `sampler=name` stands for, with its usual settings; None for None."""
    return name and instantiate(OmegaConf.load(CONF / "sampler" / f"{name}.yaml"))
