"""A masked autoregressive flow: a density of codes that can be sampled."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.core.randomness import derive

MAX_LOG_SCALE = 3.0  # so that no layer's values can explode
MIN_CODES = 100  # to fit a flow on


class MaskedLinear(nn.Linear):
    """A dense layer in which an output of degree d depends on inputs of degree <= d alone, or,
    with `strict`, < d."""

    def __init__(self, inputs: Tensor, outputs: Tensor, strict: bool = False):
        super().__init__(len(inputs), len(outputs))
        connected = outputs[:, None] > inputs if strict else outputs[:, None] >= inputs
        self.register_buffer("mask", connected.float())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask, self.bias)


class AutoregressiveLayer(nn.Module):
    """u = (z - m(z)) · exp(-a(z)), where m and a of a dimension depend on those before it alone.

    log |det ∂u/∂z| = -Σ a. Source: Germain et al., ICML 2015 (the masks).
    """

    def __init__(self, dims: int, hidden: int):
        super().__init__()
        degree = torch.arange(1, dims + 1)
        hidden_degree = torch.arange(hidden) % max(1, dims - 1) + 1
        self.net = nn.Sequential(
            MaskedLinear(degree, hidden_degree),
            nn.ReLU(),
            MaskedLinear(hidden_degree, hidden_degree),
            nn.ReLU(),
            MaskedLinear(hidden_degree, degree.repeat(2), strict=True),
        )
        nn.init.zeros_(self.net[-1].weight)  # the identity, to start with
        nn.init.zeros_(self.net[-1].bias)

    def shift_and_log_scale(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """m(z) and a(z), (B, D) each."""
        mean, log_scale = self.net(z).chunk(2, dim=1)
        return mean, MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, D) → u (B, D) and log |det| (B,)."""
        mean, log_scale = self.shift_and_log_scale(z)
        return (z - mean) * (-log_scale).exp(), -log_scale.sum(1)

    def inverse(self, u: Tensor) -> Tensor:
        """u (B, D) → z (B, D), one dimension after the other."""
        z = torch.zeros_like(u)
        for i in range(u.shape[1]):
            mean, log_scale = self.shift_and_log_scale(z)
            z[:, i] = u[:, i] * log_scale[:, i].exp() + mean[:, i]
        return z


class Flow(nn.Module):
    """A sampler: autoregressive layers, with the order of dimensions reversed between them.

    Codes are standardised first; `fit` minimises -log p(z) over `steps` batches with Adam.

    Source: Papamakarios, Pavlakou & Murray, NeurIPS 2017.

    Raises:
        UserError: layers, hidden or steps is not an integer >= 1; lr is not above 0; the codes
            are too few.
    """

    def __init__(self, layers: int = 5, hidden: int = 128, steps: int = 2000, lr: float = 2e-3):
        super().__init__()
        self.layers = check_int("sampler.layers", layers)
        self.hidden = check_int("sampler.hidden", hidden)
        self.steps = check_int("sampler.steps", steps)
        self.lr = check_float("sampler.lr", lr, exclusive=True)

    def build(self, codes: Tensor, seed: int) -> None:
        """Make new layers for codes (N, D)."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "flow"))
            dims = codes.shape[1]
            self.transforms = nn.ModuleList(
                AutoregressiveLayer(dims, self.hidden) for _ in range(self.layers)
            )
        self.register_buffer("mean", codes.mean(0))
        self.register_buffer("scale", codes.std(0).clamp_min(1e-6))

    @torch.enable_grad()
    def fit(self, codes: Tensor, seed: int) -> None:
        if len(codes) < MIN_CODES:
            raise UserError(
                f"a flow needs {MIN_CODES} training images, got {len(codes)}: take sampler=normal"
            )
        self.build(codes, seed)
        rng = torch.Generator().manual_seed(derive(seed, "flow batches"))
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            chosen = torch.randint(len(codes), (min(256, len(codes)),), generator=rng)
            optimizer.zero_grad()
            (-self.log_prob(codes[chosen]).mean()).backward()
            optimizer.step()
            schedule.step()

    def log_prob(self, codes: Tensor) -> Tensor:
        """log p(z) in nats of codes (B, D), (B,)."""
        u, total = (codes - self.mean) / self.scale, -self.scale.log().sum()
        for layer in self.transforms:
            u, log_det = layer(u.flip(1))
            total = total + log_det
        return total + torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(1)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Tensor:
        u = torch.randn(n, len(self.mean), generator=generator)
        for layer in reversed(self.transforms):
            u = layer.inverse(u).flip(1)
        return u * self.scale + self.mean
