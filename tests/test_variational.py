"""Variational families: bounds against closed forms and against averages over random codes."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from ae_lab.core.errors import UserError, root_cause
from ae_lab.data import Batch, Corruption, Split
from ae_lab.data.loaders import EvalLoader, TrainLoader
from ae_lab.models import KL, GaussianBottleneck, IWAELoss, LadderBottleneck
from ae_lab.models.gaussians import product_of_gaussians
from tests.building import build


def batch_of(n: int) -> Batch:
    clean = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return Batch(clean, clean, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


def gaussian_bottleneck(
    prior: str, samples: int = 1
) -> tuple[GaussianBottleneck, torch.Tensor, torch.Tensor]:
    """A bottleneck whose prior differs between labels, with features and labels for it."""
    torch.manual_seed(0)
    bottleneck = GaussianBottleneck((6,), 3, latent=4, samples=samples, prior=prior)
    for weight in bottleneck.prior.parameters():
        torch.nn.init.normal_(weight)
    return bottleneck, torch.randn(5, 6), torch.eye(3)[[0, 1, 2, 1, 0]]


def distributions(bottleneck, features, label):
    """q(z | x) and p(z) as PyTorch's distributions."""
    mean, log_variance = bottleneck.head(features).chunk(2, 1)
    posterior = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    mean, log_variance = bottleneck.prior(label)
    scale = (0.5 * log_variance).exp().expand(5, -1)
    return posterior, Independent(Normal(mean.expand(5, -1), scale), 1)


@pytest.mark.parametrize("kind", ["standard", "label"])
def test_the_kl_is_the_closed_form_and_the_average_over_random_codes(kind):
    bottleneck, features, label = gaussian_bottleneck(kind, samples=20_000)
    code, outputs = bottleneck(features, label, draw=True)
    posterior, prior = distributions(bottleneck, features, label)
    torch.testing.assert_close(outputs["kl"].sum(1), kl_divergence(posterior, prior))
    expected = prior.log_prob(code) - posterior.log_prob(code)
    torch.testing.assert_close(outputs["log_ratio"], expected, atol=1e-4, rtol=1e-4)
    error = outputs["log_ratio"].std(0) / math.sqrt(20_000)
    assert ((-outputs["log_ratio"].mean(0) - outputs["kl"].sum(1)).abs() < 5 * error).all()


@pytest.mark.parametrize("top", [2, [3, 2]])
def test_the_kl_of_a_ladder_is_the_average_over_random_codes(top):
    torch.manual_seed(0)
    ladder = LadderBottleneck((6,), 3, latent=4, top=top, hidden=8, samples=20_000)
    features = torch.randn(5, 6)
    with torch.no_grad():
        code, outputs = ladder(features, torch.eye(3)[[0, 1, 2, 1, 0]], draw=True)
    assert code.shape == (20_000, 5, 4)
    assert torch.equal(outputs["kl"][:, -2:], outputs["kl_top"])
    assert outputs["kl_top"].sum(1).gt(0.01).all()
    error = outputs["log_ratio"].std(0) / math.sqrt(20_000)
    assert ((-outputs["log_ratio"].mean(0) - outputs["kl"].sum(1)).abs() < 6 * error).all()


def test_the_product_of_two_gaussians():
    first, second = Normal(torch.tensor(1.0), 0.5), Normal(torch.tensor(-2.0), 1.5)
    log_variances = [2 * normal.scale.log() for normal in (first, second)]
    mean, log_variance = product_of_gaussians(
        first.loc, log_variances[0], second.loc, log_variances[1]
    )
    x = torch.linspace(-3, 3, 7)
    sum_of_logs = first.log_prob(x) + second.log_prob(x)
    product = Normal(mean, (0.5 * log_variance).exp()).log_prob(x)
    torch.testing.assert_close(sum_of_logs - sum_of_logs[0], product - product[0])


def test_codes_are_random_in_training_and_the_mean_otherwise():
    bottleneck, features, label = gaussian_bottleneck("standard", samples=3)
    mean = bottleneck.head(features)[:, :4]
    assert torch.equal(bottleneck(features, label, draw=False)[0], mean)
    codes = bottleneck(features, label, draw=True)[0]
    assert codes.shape == (3, 5, 4)
    assert not torch.equal(codes[0], codes[1])
    model = build("model=vae", "hidden=[8]")
    batch = batch_of(3)
    assert not torch.equal(model(batch).code, model(batch).code)
    assert torch.equal(model.eval()(batch).code, model(batch).code)


def test_samples_of_a_prior_of_the_label_follow_that_prior():
    bottleneck, _, _ = gaussian_bottleneck("label")
    label = torch.eye(3)[torch.arange(30_000) % 3]
    with torch.no_grad():
        samples = bottleneck.sample(label, torch.Generator().manual_seed(0))
        mean, log_variance = bottleneck.prior(torch.eye(3))
    for y in range(3):
        of_label = samples[label[:, y] > 0]
        scale = (0.5 * log_variance[y]).exp()
        torch.testing.assert_close(of_label.mean(0) / scale, mean[y] / scale, atol=0.05, rtol=0)
        torch.testing.assert_close(of_label.std(0) / scale, torch.ones(4), atol=0.05, rtol=0)


def test_the_importance_bound_is_the_elbo_with_one_code_and_grows_with_their_number():
    model, batch = build("model=iwae", "hidden=[20]", "latent=3"), batch_of(4)
    likelihood = model.objective.likelihood
    loss = IWAELoss(likelihood)

    def mean_bound(samples: int, repeats: int) -> float:
        model.bottleneck.samples = samples
        with torch.no_grad():
            return -sum(float(loss(model(batch), model)) for _ in range(repeats)) / repeats

    torch.manual_seed(0)
    model.bottleneck.samples = 1
    out = model(batch)
    elbo = likelihood.log_prob(out).mean() + out.bottleneck["log_ratio"].mean()
    assert -float(loss(out, model)) == pytest.approx(elbo.item())
    one, few, many = mean_bound(1, 2000), mean_bound(5, 400), mean_bound(100, 20)
    assert one < few < many


def test_the_weight_of_the_kl_rises_in_training_only():
    model, term = build("model=vae"), KL(weight=4.0, warmup=0.5)
    model.num_updates, model.total_updates = 24, 100
    assert term.current_weight(model) == pytest.approx(2.0)
    assert term.current_weight(model.eval()) == 4.0
    model.train().num_updates = 49
    assert term.current_weight(model) == 4.0


def test_free_bits_do_not_push_a_weak_dimension():
    out = build("model=vae", "latent=2")(batch_of(4))
    out.bottleneck["kl"] = torch.tensor([[0.1, 3.0]] * 4, requires_grad=True)
    loss = KL(free_bits=0.5)(out, None)
    assert float(loss.detach()) == pytest.approx(3.5)
    [gradient] = torch.autograd.grad(loss, out.bottleneck["kl"])
    assert gradient[:, 0].eq(0).all()
    assert gradient[:, 1].gt(0).all()


@pytest.mark.parametrize("model", ["mlp", "unet", "cnn_skip"])
def test_the_kl_of_a_code_that_is_not_random_is_refused(model):
    with pytest.raises(Exception, match="take model=vae") as refused:
        build(f"model={model}", "objective=elbo")
    assert isinstance(root_cause(refused.value), UserError)


def test_the_kl_of_a_code_that_skips_bypass_is_refused():
    with pytest.raises(Exception, match="regularises the code, but skips bypass it") as refused:
        build("model=vae", "body=cnn", "model.encoder.skips=true", "model.decoder.skips=true")
    assert isinstance(root_cause(refused.value), UserError)


def test_binarized_pixels_are_new_in_each_epoch_and_fixed_in_validation():
    gray = torch.arange(256, dtype=torch.uint8).repeat(400, 1).reshape(400, 1, 16, 16)
    split = Split(gray, torch.ones(400, 1, dtype=torch.uint8))

    def epoch(number):
        return next(
            iter(TrainLoader(split, Corruption(), 400, 0, lambda: (number, 0), binarize=True))
        ).clean

    first = epoch(0)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(first.mean(0), gray[0] / 255, atol=0.12, rtol=0)
    assert torch.equal(first, epoch(0))
    assert not torch.equal(first, epoch(1))
    whole = next(iter(EvalLoader(split, Corruption(), "val", 400, binarize=True))).clean
    parts = list(EvalLoader(split, Corruption(), "val", 100, binarize=True))
    assert torch.equal(whole, torch.cat([part.clean for part in parts]))
    assert all(torch.equal(part.clean, part.corrupted) for part in parts)
