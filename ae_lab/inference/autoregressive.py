"""A learned prior of quantised codes: their indices, one after the other."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from ae_lab.core.errors import check_float, check_int
from ae_lab.core.randomness import derive


class Autoregressive(nn.Module):
    """p(k₁, ..., k_L | y) = Π over i of p(k_i | k₁, ..., k_{i-1}, y), by gated recurrent units.

    k is the sequence of an image's indices, level by level within each token, row by row where
    tokens lie on a map. The units start from a function of the label y; at place i they get the
    index before it and the place. `fit` minimises -log p(k | y) over `steps` batches with Adam.

    Source: van den Oord, Vinyals & Kavukcuoglu, NeurIPS 2017 (a learned prior over indices); Cho
    et al., EMNLP 2014 (the units).

    Raises:
        UserError: hidden, layers or steps is not an integer >= 1; lr is not above 0.
    """

    def __init__(self, hidden: int = 256, layers: int = 1, steps: int = 1500, lr: float = 3e-3):
        super().__init__()
        self.hidden = check_int("sampler.hidden", hidden)
        self.layers = check_int("sampler.layers", layers)
        self.steps = check_int("sampler.steps", steps)
        self.lr = check_float("sampler.lr", lr, exclusive=True)

    def build(self, shape: tuple[int, int], size: int, num_labels: int, seed: int) -> None:
        """Make a new network for indices (tokens, levels) below `size`."""
        self.shape, self.size = shape, size
        self.length = shape[0] * shape[1]
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "autoregressive"))
            # Each level has embeddings of its own; the last one stands before the first index.
            self.embedding = nn.Embedding(shape[1] * size + 1, self.hidden)
            self.place = nn.Parameter(0.1 * torch.randn(self.length, self.hidden))
            self.start = nn.Linear(num_labels, self.layers * self.hidden)
            self.units = nn.GRU(self.hidden, self.hidden, self.layers, batch_first=True)
            self.head = nn.Linear(self.hidden, size)

    @torch.enable_grad()
    def fit(self, indices: Tensor, labels: Tensor, size: int, seed: int) -> None:
        """Fit the network to indices (N, tokens, levels) below `size`, and labels (N, K)."""
        self.build(tuple(indices.shape[1:]), size, labels.shape[1], seed)
        rng = torch.Generator().manual_seed(derive(seed, "autoregressive batches"))
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            chosen = torch.randint(len(indices), (min(128, len(indices)),), generator=rng)
            optimizer.zero_grad()
            (-self.log_prob(indices[chosen], labels[chosen]).mean()).backward()
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    def log_prob(self, indices: Tensor, labels: Tensor) -> Tensor:
        """log p(k | y) in nats of indices (B, tokens, levels), (B,)."""
        before = self.embed(indices)[:, :-1]
        states, _ = self.units(torch.cat([self.first(len(indices)), before], 1) + self.place,
                               self.initial_state(labels))  # fmt: skip
        return -F.cross_entropy(
            self.head(states).transpose(1, 2), indices.flatten(1), reduction="none"
        ).sum(1)

    def embed(self, indices: Tensor) -> Tensor:
        """Indices (B, tokens, levels) → (B, tokens·levels, hidden)."""
        level = torch.arange(indices.shape[2])
        return self.embedding((indices + level * self.size).flatten(1))

    def first(self, n: int) -> Tensor:
        """What the units get before the first index, (n, 1, hidden)."""
        return self.embedding.weight[-1].expand(n, 1, -1)

    def initial_state(self, labels: Tensor) -> Tensor:
        """Of labels (B, K), (layers, B, hidden)."""
        return (
            self.start(labels).tanh().unflatten(1, (self.layers, -1)).transpose(0, 1).contiguous()
        )

    @torch.no_grad()
    def sample(self, labels: Tensor, generator: Generator) -> Tensor:
        """Random indices (n, tokens, levels) of labels (n, K)."""
        indices = torch.zeros(len(labels), self.length, dtype=torch.long)
        before, state = self.first(len(labels)), self.initial_state(labels)
        for i in range(self.length):
            states, state = self.units(before + self.place[i], state)
            probability = self.head(states[:, 0]).softmax(1)
            indices[:, i] = torch.multinomial(probability, 1, generator=generator)[:, 0]
            level = i % self.shape[1]
            before = self.embedding(indices[:, i : i + 1] + level * self.size)
        return indices.unflatten(1, self.shape)
