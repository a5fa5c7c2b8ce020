"""Variational families: bounds against closed forms, samplers against what they were given."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ae_lab.core.errors import UserError, root_cause
from ae_lab.data.corruptions import Noise
from ae_lab.data.images import Batch, EvalLoader, Split, TrainLoader
from ae_lab.models.bottlenecks import Gaussian, Ladder, combined
from ae_lab.models.objectives import KL, ImportanceBound
from tests.building import build


def batch_of(n: int, *shape: int) -> Batch:
    chance = torch.Generator().manual_seed(0)
    clean = torch.rand(n, *(shape or (1, 28, 28)), generator=chance)
    return Batch(clean, clean, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


def gaussian(prior: str, samples: int = 1) -> tuple[Gaussian, torch.Tensor, torch.Tensor]:
    """A bottleneck with weights of some size, features and labels for it."""
    torch.manual_seed(0)
    bottleneck = Gaussian((6,), 3, latent=4, samples=samples, prior=prior)
    if bottleneck.prior_head:
        torch.nn.init.normal_(bottleneck.prior_head.weight)
    return bottleneck, torch.randn(5, 6), torch.eye(3)[[0, 1, 2, 1, 0]]


def distributions(bottleneck, features, label):
    """q(z | x) and p(z), as PyTorch has them."""
    mean, log_variance = bottleneck.head(features).chunk(2, 1)
    posterior = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    mean, log_variance = bottleneck.prior(label)
    scale = (0.5 * log_variance).exp().expand(5, -1)
    return posterior, Independent(Normal(mean.expand(5, -1), scale), 1)


@pytest.mark.parametrize("prior", ["standard", "label"])
def test_the_divergence_is_the_closed_form_and_what_chance_gives(prior):
    bottleneck, features, label = gaussian(prior, samples=20_000)
    code, extras = bottleneck(features, label, draw=True)
    posterior, before = distributions(bottleneck, features, label)
    torch.testing.assert_close(extras["kl"].sum(1), kl_divergence(posterior, before))
    expected = before.log_prob(code) - posterior.log_prob(code)
    torch.testing.assert_close(extras["log_ratio"], expected, atol=1e-4, rtol=1e-4)
    error = extras["log_ratio"].std(0) / math.sqrt(20_000)
    assert ((-extras["log_ratio"].mean(0) - extras["kl"].sum(1)).abs() < 5 * error).all()


def test_the_levels_of_a_ladder_add_up_to_what_chance_gives():
    torch.manual_seed(0)
    ladder = Ladder((6,), 3, latent=4, top=2, hidden=8, samples=20_000)
    features = torch.randn(5, 6)
    with torch.no_grad():
        code, extras = ladder(features, torch.eye(3)[[0, 1, 2, 1, 0]], draw=True)
    assert code.shape == (20_000, 5, 4)
    assert torch.equal(extras["kl"][:, 4:], extras["kl_top"])
    assert extras["kl_top"].sum(1).gt(0.01).all()
    error = extras["log_ratio"].std(0) / math.sqrt(20_000)
    assert ((-extras["log_ratio"].mean(0) - extras["kl"].sum(1)).abs() < 6 * error).all()


def test_two_beliefs_combine_as_their_product():
    first, second = Normal(torch.tensor(1.0), 0.5), Normal(torch.tensor(-2.0), 1.5)
    logs = [(2 * torch.tensor(belief.scale).log()) for belief in (first, second)]
    mean, log_variance = combined(first.loc, logs[0], second.loc, logs[1])
    x = torch.linspace(-3, 3, 7)
    together = first.log_prob(x) + second.log_prob(x)
    alone = Normal(mean, (0.5 * log_variance).exp()).log_prob(x)
    torch.testing.assert_close(together - together[0], alone - alone[0])


def test_codes_are_drawn_in_training_and_the_mean_else():
    bottleneck, features, label = gaussian("standard", samples=3)
    mean = bottleneck.head(features)[:, :4]
    assert torch.equal(bottleneck(features, label, draw=False)[0], mean)
    drawn = bottleneck(features, label, draw=True)[0]
    assert drawn.shape == (3, 5, 4)
    assert not torch.equal(drawn[0], drawn[1])
    model = build("model=vae", "hidden=[8]")
    batch = batch_of(3)
    assert not torch.equal(model(batch).code, model(batch).code)
    assert torch.equal(model.eval()(batch).code, model(batch).code)


def test_samples_of_the_prior_are_those_of_their_label():
    bottleneck, _, _ = gaussian("label")
    label = torch.eye(3)[torch.arange(30_000) % 3]
    with torch.no_grad():
        drawn = bottleneck.sample(label, torch.Generator().manual_seed(0))
        mean, log_variance = bottleneck.prior(torch.eye(3))
    for y in range(3):
        mine = drawn[label[:, y] > 0]
        scale = (0.5 * log_variance[y]).exp()
        torch.testing.assert_close(mine.mean(0) / scale, mean[y] / scale, atol=0.05, rtol=0)
        torch.testing.assert_close(mine.std(0) / scale, torch.ones(4), atol=0.05, rtol=0)


def test_the_importance_bound_is_the_elbo_with_one_code_and_grows_with_their_number():
    model, batch = build("model=iwae", "hidden=[20]", "latent=3"), batch_of(4)
    bound = ImportanceBound(model.objective.likelihood)

    def mean_bound(samples: int, repeats: int) -> float:
        model.bottleneck.samples = samples
        with torch.no_grad():
            return -sum(float(bound(model(batch), model)) for _ in range(repeats)) / repeats

    torch.manual_seed(0)
    model.bottleneck.samples = 1
    out = model(batch)
    elbo = (-model.objective.likelihood(out, model) + out.extras["log_ratio"].mean()).item()
    assert -float(bound(out, model)) == pytest.approx(elbo)
    one, few, many = mean_bound(1, 2000), mean_bound(5, 400), mean_bound(100, 20)
    assert one < few < many


def test_the_weight_of_the_divergence_rises_in_training_alone():
    model, term = build("model=vae"), KL(weight=4.0, warmup=0.5)
    model.steps, model.total_steps = 25, 100
    assert term.weigh(model) == pytest.approx(2.0)
    assert term.weigh(model.eval()) == 4.0
    model.train().steps = 50
    assert term.weigh(model) == 4.0


def test_free_nats_leave_a_weak_dimension_alone():
    out = build("model=vae", "latent=2")(batch_of(4))
    out.extras["kl"] = torch.tensor([[0.1, 3.0]] * 4, requires_grad=True)
    loss = KL(free=0.5)(out, None)
    assert float(loss.detach()) == pytest.approx(3.5)
    [gradient] = torch.autograd.grad(loss, out.extras["kl"])
    assert gradient[:, 0].eq(0).all()
    assert gradient[:, 1].gt(0).all()


@pytest.mark.parametrize("model", ["mlp", "unet", "cnn_skip"])
def test_a_divergence_of_a_code_that_is_not_random_is_refused(model):
    with pytest.raises(Exception, match="take model=vae") as caught:
        build(f"model={model}", "objective=elbo")
    assert isinstance(root_cause(caught.value), UserError)


def test_a_divergence_of_a_code_that_is_passed_by_is_refused():
    with pytest.raises(Exception, match="pass it by") as caught:
        build("model=cnn_vae", "model.encoder.skips=true", "model.decoder.skips=true")
    assert isinstance(root_cause(caught.value), UserError)


def test_binary_pixels_are_drawn_anew_in_training_and_once_in_validation():
    gray = torch.arange(256, dtype=torch.uint8).repeat(400, 1).reshape(400, 1, 16, 16)
    split = Split(gray, torch.ones(400, 1, dtype=torch.uint8))

    def epoch(number):
        return next(
            iter(TrainLoader(split, Noise(), 400, 0, lambda: (number, 0), binary=True))
        ).clean

    first = epoch(0)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(first.mean(0), gray[0] / 255, atol=0.12, rtol=0)
    assert torch.equal(first, epoch(0))
    assert not torch.equal(first, epoch(1))
    whole = next(iter(EvalLoader(split, Noise(), "val", 400, binary=True))).clean
    parts = list(EvalLoader(split, Noise(), "val", 100, binary=True))
    assert torch.equal(whole, torch.cat([part.clean for part in parts]))
    assert all(torch.equal(part.clean, part.seen) for part in parts)
