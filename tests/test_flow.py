"""The flow against the Jacobian, its own inverse, and a density that is known."""

import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.inference.flow import AutoregressiveLayer, Flow


def bent(n: int, seed: int) -> torch.Tensor:
    """x ~ N(0, 1), y ~ N(x², ½²): no normal distribution, and a known density."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, generator=rng)
    return torch.stack([x, x.square() + 0.5 * torch.randn(n, generator=rng)], 1)


def test_each_dimension_depends_on_those_before_and_the_determinant_is_the_jacobians():
    torch.manual_seed(0)
    layer = AutoregressiveLayer(5, 32)
    torch.nn.init.normal_(layer.net[-1].weight)
    z = torch.randn(1, 5)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), z)[:, 0]
    assert jacobian.triu(1).eq(0).all()
    assert jacobian.tril(-1).abs().gt(0).any()
    torch.testing.assert_close(layer(z)[1][0], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(layer.inverse(layer(z)[0]), z, atol=1e-4, rtol=1e-4)


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
