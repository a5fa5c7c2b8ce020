"""The model's parts: shapes, gradients, and what reaches what."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from ae_lab.core.errors import UserError
from ae_lab.data import Batch
from ae_lab.inference import Normal
from ae_lab.models import BernoulliLikelihood, NegativeLogLikelihood, Objective, SquaredError
from ae_lab.models.networks.layers import ACTIVATIONS, OUTPUTS, join_label
from tests.building import build


def batch_of(n: int, channels: int = 1, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    clean = torch.rand(n, channels, 28, 28, generator=rng)
    corrupted = torch.rand(n, channels, 28, 28, generator=rng)
    return Batch(clean, corrupted, one_hot(torch.arange(n) % 10, 10).float(), torch.arange(n))


@settings(deadline=None, max_examples=25)
@given(
    latent=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    output=st.sampled_from(sorted(OUTPUTS.keys() - {"composite"})),
    norm=st.sampled_from(["none", "batch", "layer"]),
    conditional=st.booleans(),
    condition_encoder=st.booleans(),
)
def test_any_combination_reconstructs_and_every_weight_learns(
    latent, hidden, activation, output, norm, conditional, condition_encoder
):
    model = build(
        f"latent={latent}",
        f"hidden={hidden}",
        f"activation={activation}",
        f"output={output}",
        f"norm={norm}",
        f"conditional={conditional}",
        f"condition_encoder={condition_encoder}",
    )
    batch = batch_of(6)
    out = model(batch)
    assert out.code.shape == (6, latent)
    assert out.reconstruction.shape == batch.clean.shape
    if output in ("sigmoid", "tanh"):
        assert out.reconstruction.min() >= 0
        assert out.reconstruction.max() <= 1
    loss, _ = model.objective(out, model)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("condition_encoder", [True, False])
def test_the_label_reaches_what_it_is_asked_to_and_nothing_else(conditional, condition_encoder):
    model = build(f"conditional={conditional}", f"condition_encoder={condition_encoder}").eval()
    batch = batch_of(4)
    other = batch._replace(label=batch.label.roll(1, 0))
    one, two = model(batch), model(other)
    assert torch.equal(one.code, two.code) is not condition_encoder
    changed = not torch.equal(
        model.decode(one.code, batch.label), model.decode(one.code, other.label)
    )
    assert changed is conditional


def test_the_label_is_appended_to_the_code():
    code, label = torch.rand(2, 3), torch.eye(2)
    assert torch.equal(join_label(code, label), torch.cat([code, label], 1))
    maps = join_label(torch.rand(2, 3, 4, 5), label)
    assert maps.shape == (2, 5, 4, 5)
    assert torch.equal(maps[:, 3:, 2, 3], label)


def test_the_encoder_gets_the_corrupted_image_and_the_loss_the_clean_one():
    model = build().eval()
    batch = batch_of(3)
    out = model(batch)
    without_clean = model(batch._replace(clean=torch.zeros_like(batch.clean)))
    assert torch.equal(out.reconstruction, without_clean.reconstruction)
    expected = (out.reconstruction - batch.clean).square().sum() / 3
    torch.testing.assert_close(SquaredError()(out, model), expected)


def test_losses_have_the_gradients_of_finite_differences():
    torch.manual_seed(0)
    model = build("hidden=[5]", "latent=2", "activation=tanh").double()
    batch = Batch(*(part.double() for part in batch_of(2)[:3]), torch.arange(2))
    weight = model.bottleneck.head.weight

    for term in (SquaredError(), NegativeLogLikelihood(BernoulliLikelihood())):

        def loss(value, term=term):
            changed = torch.func.functional_call(model, {"bottleneck.head.weight": value}, (batch,))
            return term(changed, model)

        [gradient] = torch.autograd.grad(loss(weight), weight)
        direction = torch.randn_like(weight)
        step = 1e-5
        difference = (loss(weight + step * direction) - loss(weight - step * direction)) / (
            2 * step
        )
        torch.testing.assert_close((gradient * direction).sum(), difference, rtol=1e-6, atol=0)


def test_bernoulli_likelihood_is_the_closed_form():
    model = build("objective=likelihood", "hidden=[5]")
    out = model(batch_of(2))
    p, x = out.reconstruction.double(), out.clean.double()
    nats = -(x * p.log() + (1 - x) * (1 - p).log()).sum() / 2
    assert isinstance(model.objective.likelihood, BernoulliLikelihood)
    term = NegativeLogLikelihood(BernoulliLikelihood())
    assert float(term(out, model)) == pytest.approx(float(nats), rel=1e-5)
    with pytest.raises(UserError, match="output=sigmoid"):
        term.check(build("output=linear"))


def test_an_objective_is_a_weighted_sum_of_terms_logged_unweighted():
    model = build()
    out = model(batch_of(2))
    bernoulli = NegativeLogLikelihood(BernoulliLikelihood(), weight=0.5)
    objective = Objective(a=SquaredError(weight=2.0), b=bernoulli)
    total, terms = objective(out, model)
    torch.testing.assert_close(total, 2 * terms["a"] + 0.5 * terms["b"])
    torch.testing.assert_close(terms["a"], SquaredError()(out, model))
    with pytest.raises(UserError, match="empty"):
        Objective(a=SquaredError(weight=0))


def test_random_codes_have_the_moments_of_the_training_codes():
    torch.manual_seed(0)
    mixing = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.3, 0.0], [-0.5, 0.2, 2.0]])
    codes = torch.randn(5000, 3) @ mixing.T + torch.tensor([1.0, -2.0, 3.0])
    sampler = Normal()
    sampler.fit(codes, seed=0)
    samples = sampler.sample(50_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(samples.mean(0), codes.mean(0), atol=0.03, rtol=0)
    torch.testing.assert_close(samples.T.cov(), codes.T.cov(), atol=0.1, rtol=0)


def test_a_model_is_a_function_of_its_seed():
    one, same, other = build("seed=3"), build("seed=3"), build("seed=4")
    for name, value in one.state_dict().items():
        assert torch.equal(value, same.state_dict()[name])
    assert not torch.equal(one.encoder.layers[0].weight, other.encoder.layers[0].weight)


def test_the_schedule_rises_falls_and_ends_at_nothing():
    from ae_lab.training.optimizers import warmup_cosine

    for total in (1, 2, 3, 10, 100):
        for warmup in (0.0, 0.1, 0.5, 1.0):
            optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
            schedule = warmup_cosine(optimizer, total, warmup)
            rates = []
            for _ in range(total):
                rates.append(schedule.get_last_lr()[0])
                optimizer.step()
                schedule.step()
            assert all(0 <= rate <= 1 and math.isfinite(rate) for rate in rates)
            top = rates.index(max(rates))
            assert rates[: top + 1] == sorted(rates[: top + 1])
            assert rates[top:] == sorted(rates[top:], reverse=True)
            if warmup < 1:
                assert schedule.get_last_lr()[0] == pytest.approx(0, abs=1e-9)
