"""The flow against a density that is known."""

import pytest
import torch

from ae_lab.core import trust
from ae_lab.core.errors import UserError
from ae_lab.inference.flow import Flow


def bent(n: int, seed: int) -> torch.Tensor:
    """x ~ N(0, 1), y ~ N(x², ½²): no normal distribution, and a known density."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=rng)
    return torch.stack([x, x.square() + 0.5 * torch.randn(n, generator=rng)], 1)


def test_a_flow_learns_a_bent_density_and_draws_from_it():
    flow = Flow(layers=4, hidden=32, steps=600)
    flow.fit(bent(4000, 0), seed=0)
    fresh = bent(4000, 1)
    normal = torch.distributions.Normal(0.0, 1.0)
    best = normal.log_prob(fresh[:, 0])
    best = best + torch.distributions.Normal(fresh[:, 0].square(), 0.5).log_prob(fresh[:, 1])
    with torch.no_grad():
        short = float((best - flow.log_prob(fresh)).mean())
    assert 0 < short < 0.15  # nats; a normal distribution is short by 0.75
    drawn = flow.sample(4000, torch.Generator().manual_seed(0))
    left = drawn[:, 1] - drawn[:, 0].square()
    assert float(left.mean()) == pytest.approx(0, abs=0.15)
    assert float(left.std()) == pytest.approx(0.5, abs=0.15)


def test_a_flow_of_one_dimension_and_too_few_codes():
    flow = Flow(layers=1, hidden=4, steps=5)
    flow.fit(bent(200, 0)[:, :1], seed=0)
    assert flow.sample(3, torch.Generator()).shape == (3, 1)
    with pytest.raises(UserError, match="sampler=normal"):
        flow.fit(bent(50, 0), seed=0)


def test_codes_that_a_flow_draws_do_not_depend_on_what_was_drawn_before():
    flow = Flow(layers=2, hidden=8, steps=5)
    flow.fit(bent(200, 0), seed=0)
    first = flow.sample(10, torch.Generator().manual_seed(1))
    torch.rand(3)
    assert torch.equal(flow.sample(10, torch.Generator().manual_seed(1)), first)


def test_a_flow_without_its_package_names_the_cure(monkeypatch):
    monkeypatch.setattr(trust, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"pip install 'ae_lab\[flows\]'"):
        Flow()
