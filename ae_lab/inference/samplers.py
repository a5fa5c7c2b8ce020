"""Where random codes come from: `fit(codes, seed)`, then `sample(n, generator)`.

They make a generator of any autoencoder whose code is a vector. A new sampler is one class and a
file in `conf/sampler/`, or in the folder `sampler/` of a `hydra.searchpath`.
"""

import inspect
import re
from typing import Protocol

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Generator, Tensor

from ae_lab.core.configuration import CONF
from ae_lab.core.errors import UserError, check_choice, check_int


class Sampler(Protocol):
    """A distribution of codes that is fitted and sampled."""

    def fit(self, codes: Tensor, seed: int) -> None:
        """Fit the distribution to codes (N, latent).

        Raises:
            UserError: they are too few.
        """

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n random codes (n, latent)."""


class Prior:
    """The model's own prior p(z) or p(z | y): its bottleneck samples, nothing is fitted."""


class Normal:
    """N(m, S) with the mean m and the full covariance S of the training codes.

    Raises:
        UserError: fewer than two codes.
    """

    def fit(self, codes: Tensor, seed: int) -> None:
        if len(codes) < 2:
            raise UserError(f"a normal distribution needs 2 training images, got {len(codes)}")
        self.mean = codes.mean(0)
        # In double precision, and with a little added: a dimension of the code may be constant,
        # or a linear function of the others.
        covariance = codes.double().T.cov().reshape(codes.shape[1], codes.shape[1])
        jitter = 1e-6 * (1 + covariance.diagonal().mean()) * torch.eye(len(covariance))
        self.scale = torch.linalg.cholesky(covariance + jitter).float()

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.mean + torch.randn(n, len(self.mean), generator=generator) @ self.scale.T


class StandardNormal:
    """N(0, I), wherever the codes lie: the prior of others, for a model that has none."""

    def fit(self, codes: Tensor, seed: int) -> None:
        self.latent = codes.shape[1]

    def sample(self, n: int, generator: Generator) -> Tensor:
        return torch.randn(n, self.latent, generator=generator)


class Mixture:
    """Σ over k of π_k N(m_k, S_k), full covariances, fitted by expectation-maximisation.

    Source: Ghosh et al., ICLR 2020, who generate from deterministic autoencoders with it.

    Raises:
        UserError: components is not an integer >= 1, or the codes are too few.
    """

    def __init__(self, components: int = 10):
        self.components = check_int("sampler.components", components)

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
        noise = torch.randn(n, self.means.shape[1], 1, generator=generator)
        return self.means[k] + (self.scales[k] @ noise).squeeze(2)


def sampler_by_name(name: str | None) -> Sampler | Prior | None:
    """The sampler that `sampler=name` stands for, with its default settings; None for None.

    Raises:
        UserError: there is none of that name.
    """
    files = {file.stem: file for file in (CONF / "sampler").glob("*.yaml")}
    return name and instantiate(OmegaConf.load(check_choice("sampler", name, files)))


def describe_sampler(sampler: Sampler | Prior) -> str:
    """A sampler's class in words, with the arguments that differ from their defaults.

    >>> describe_sampler(Mixture(components=5))
    'mixture (components=5)'
    """
    kind = type(sampler)
    arguments = inspect.signature(kind).parameters.values()
    values = [(a.name, getattr(sampler, a.name, a.default), a.default) for a in arguments]
    changed = ", ".join(f"{name}={value}" for name, value, default in values if value != default)
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind.__name__).lower()
    return words + (f" ({changed})" if changed else "")
