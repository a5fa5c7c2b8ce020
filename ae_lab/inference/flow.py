"""A masked autoregressive flow: a density of codes that can be sampled."""

import math
from functools import partial

import torch
from torch import Generator, Tensor, nn

from ae_lab.core.errors import UserError, check_float, check_int
from ae_lab.core.randomness import derive
from ae_lab.core.trust import check_installed

MAX_LOG_SCALE = 3.0  # of a layer: codes far from the training's get next to no density by more
MIN_CODES = 100  # to fit a flow on


class Flow(nn.Module):
    """A sampler: autoregressive layers of the package zuko, which reverse the order of dimensions.

    Codes are standardised first; `fit` minimises -log p(z) over `steps` batches with Adam.

    Source: Papamakarios, Pavlakou & Murray, NeurIPS 2017.

    Raises:
        UserError: layers, hidden or steps is not an integer >= 1; lr is not above 0; the codes
            are too few; zuko is not installed.
    """

    def __init__(self, layers: int = 5, hidden: int = 128, steps: int = 2000, lr: float = 2e-3):
        super().__init__()
        check_installed("zuko.flows.MAF")
        self.layers = check_int("sampler.layers", layers)
        self.hidden = check_int("sampler.hidden", hidden)
        self.steps = check_int("sampler.steps", steps)
        self.lr = check_float("sampler.lr", lr, exclusive=True)

    def build(self, codes: Tensor, seed: int) -> None:
        """Make new layers for codes (N, D)."""
        from zuko.flows import MAF
        from zuko.transforms import MonotonicAffineTransform

        affine = partial(MonotonicAffineTransform, slope=math.exp(-MAX_LOG_SCALE))
        widths = [self.hidden, self.hidden]
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "flow"))
            self.flow = MAF(
                codes.shape[1], transforms=self.layers, hidden_features=widths, univariate=affine
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
        return self.flow().log_prob((codes - self.mean) / self.scale) - self.scale.log().sum()

    @torch.no_grad()
    def sample(self, n: int, generator: Generator) -> Tensor:
        noise = torch.randn(n, len(self.mean), generator=generator)
        return self.flow().transform.inv(noise) * self.scale + self.mean
