"""Priors, flows and ladders against torch.distributions, autograd's Jacobian, and integrals."""

import copy
import math

import pytest
import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from ae_lab.data import Batch
from ae_lab.models import KL, FlowBottleneck, LadderBottleneck
from ae_lab.models.gaussians import product_of_gaussians
from tests.building import build

zuko = pytest.importorskip("zuko")
VAMP = ["model=vampvae", "hidden=[16]", "latent=3", "model.bottleneck.prior.components=7"]
LABELS = torch.eye(3)[[0, 1, 2, 1, 0]]


def batch_of(n: int) -> Batch:
    clean = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return Batch(clean, clean, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


def diagonal(mean: torch.Tensor, log_variance: torch.Tensor) -> Independent:
    return Independent(Normal(mean, (0.5 * log_variance).exp()), 1)


# The mixture of posteriors


def mixture_of(model) -> MixtureSameFamily:
    """The mixture of posteriors of a model's pseudo-inputs, as PyTorch's distribution."""
    pseudo_inputs = model.bottleneck.prior.logits.sigmoid()
    posteriors = diagonal(*model.bottleneck.posterior(model.encoder(pseudo_inputs)[0]))
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(pseudo_inputs))), posteriors)


@pytest.mark.parametrize("words", [[], ["model.bottleneck.samples=4"]])
def test_the_vamp_prior_is_the_mixture_of_its_posteriors(words):
    model = build(*VAMP, *words).eval()
    output = model(batch_of(5), draw=True)
    posterior = diagonal(*(output.bottleneck[name] for name in ("mean", "log_variance")))
    expected = mixture_of(model).log_prob(output.code) - posterior.log_prob(output.code)
    torch.testing.assert_close(output.bottleneck["log_ratio"], expected, atol=1e-4, rtol=1e-4)
    estimate = -expected.reshape(-1, 5).mean(0).unsqueeze(1)
    torch.testing.assert_close(output.bottleneck["kl"], estimate, atol=1e-4, rtol=1e-4)


def test_the_vamp_prior_of_a_ladder_is_that_of_its_top_level():
    model = build(*VAMP, "bottleneck=ladder", "model.bottleneck.top=[4,2]", "objective=elbo").eval()
    torch.manual_seed(0)
    output = model(batch_of(5), draw=True)
    features = model.bottleneck.upwards(model.encoder(batch_of(5).corrupted)[0])
    top = model.bottleneck.above.above
    posterior = diagonal(*top.posterior(model.bottleneck.above.upwards(features)))
    torch.manual_seed(0)
    code = posterior.base_dist.loc + posterior.base_dist.scale * torch.randn(5, 2)
    expected = posterior.log_prob(code) - mixture_of(model).log_prob(code)
    torch.testing.assert_close(
        output.bottleneck["kl_top"].squeeze(1), expected, atol=1e-4, rtol=1e-4
    )
    assert output.bottleneck["kl"].shape == (5, 3 + 4 + 1)


def test_codes_of_the_vamp_prior_come_from_the_mixture():
    model = build(*VAMP).eval()
    with torch.no_grad():
        model.bottleneck.prior.logits.mul_(5)
        codes = model.bottleneck.sample(torch.zeros(20_000, 10), torch.Generator().manual_seed(0))
        mixture = mixture_of(model)
        torch.testing.assert_close(codes.mean(0), mixture.mean, atol=0.05, rtol=0)
        torch.testing.assert_close(codes.var(0), mixture.variance, atol=0.1, rtol=0.05)
        torch.manual_seed(0)
        others = mixture.log_prob(mixture.sample((20_000,)))
        assert float(mixture.log_prob(codes).mean()) == pytest.approx(
            float(others.mean()), abs=0.05
        )


def test_pseudo_inputs_learn_and_have_the_encoders_channels():
    words = ["conditional=true", "condition_encoder=true"]
    model = build(*VAMP, *words)
    weights = model.bottleneck.prior.logits
    assert weights.shape == (7, 11, 28, 28)
    model.compute_losses(batch_of(5))["loss"].backward()
    assert weights.grad.flatten(1).abs().sum(1).gt(0).all()
    names = [name for name in model.state_dict() if name.startswith("bottleneck.prior")]
    assert names == ["bottleneck.prior.logits"]


def test_pseudo_inputs_leave_the_running_means_of_images_alone():
    words = ["body=cnn", "hidden=[4,4]", "latent=3"]
    models = [build("model=vae", *words), build(*VAMP[:1], *words, VAMP[3])]
    models[1].encoder.load_state_dict(models[0].encoder.state_dict())
    for model in models:
        model.train()(batch_of(5))
        assert all(part.training for part in model.modules())
    buffers = [dict(model.encoder.named_buffers()) for model in models]
    assert buffers[0]
    assert all(torch.equal(value, buffers[1][name]) for name, value in buffers[0].items())


def test_a_copy_of_a_model_has_a_prior_of_its_own_encoder():
    model = build(*VAMP).eval()
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.encoder.parameters():
            weight.mul_(2)
    torch.manual_seed(0)
    code = torch.randn(4, 3)
    label = torch.zeros(4, 10)
    assert not torch.equal(
        other.bottleneck.prior.log_prob(code, label), model.bottleneck.prior.log_prob(code, label)
    )
    expected = mixture_of(other).log_prob(code)
    torch.testing.assert_close(other.bottleneck.prior.log_prob(code, label), expected)


def test_free_bits_of_an_estimate_are_those_of_the_whole_code():
    output = build(*VAMP)(batch_of(4))
    output.bottleneck["kl"] = torch.tensor([[0.1]] * 4)
    assert float(KL(free_bits=0.5)(output, None)) == pytest.approx(0.5)
    output.bottleneck["kl"] = torch.tensor([[2.0], [4.0]])
    assert float(KL(free_bits=0.5)(output, None)) == pytest.approx(3.0)


# The inverse autoregressive flow


def flow_bottleneck(latent: int = 2, samples: int = 1) -> FlowBottleneck:
    """One whose maps are far from the identity."""
    torch.manual_seed(0)
    transform = zuko.flows.MaskedAutoregressiveTransform
    flow = FlowBottleneck((6,), 3, latent, transform, layers=3, context=5, samples=samples)
    for each in flow.transforms:
        torch.nn.init.normal_(each.hyper[-1].weight, std=0.3)
    return flow


def base_and_context(flow: FlowBottleneck, features: torch.Tensor):
    gaussian, context = flow.head(features).split(flow.sizes, 1)
    return diagonal(*gaussian.chunk(2, 1)), context


def test_a_flow_starts_as_its_gaussian():
    torch.manual_seed(0)
    flow = FlowBottleneck((6,), 3, 4, zuko.flows.MaskedAutoregressiveTransform)
    features = torch.randn(5, 6)
    base, _ = base_and_context(flow, features)
    code, outputs = flow(features, LABELS, draw=True)
    prior = diagonal(torch.zeros(5, 4), torch.zeros(5, 4))
    expected = prior.log_prob(code) - base.log_prob(code)
    torch.testing.assert_close(outputs["log_ratio"], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("latent", [1, 4])
def test_the_density_of_a_flow_is_that_of_autograds_jacobian(latent):
    flow = flow_bottleneck(latent)
    features = torch.randn(5, 6)
    base, context = base_and_context(flow, features)

    def bend(code):
        for transform in flow.transforms:
            code = transform(context)(code)
        return code

    torch.manual_seed(1)
    start = base.base_dist.loc + base.base_dist.scale * torch.randn(5, latent)
    torch.manual_seed(1)
    code, outputs = flow(features, LABELS, draw=True)
    torch.testing.assert_close(code, bend(start), atol=1e-5, rtol=1e-5)
    jacobian = torch.autograd.functional.jacobian(lambda z: bend(z).sum(0), start).transpose(0, 1)
    log_det = torch.linalg.slogdet(jacobian).logabsdet
    assert log_det.abs().min() > 0.01
    prior = diagonal(torch.zeros(5, latent), torch.zeros(5, latent))
    expected = prior.log_prob(code) - base.log_prob(start) + log_det
    torch.testing.assert_close(outputs["log_ratio"], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs["kl"].squeeze(1), -expected, atol=1e-4, rtol=1e-4)


def test_the_density_of_a_flow_is_one_in_all():
    flow = flow_bottleneck(2).double()
    base, context = base_and_context(flow, torch.randn(1, 6, dtype=torch.double))
    side = torch.linspace(-12, 12, 401, dtype=torch.double)
    points = torch.cartesian_prod(side, side)
    start, log_det = points, torch.zeros(len(points), dtype=torch.double)
    with torch.no_grad():
        for transform in reversed(flow.transforms):
            start, change = transform(context).inv.call_and_ladj(start)
            log_det = log_det + change
        density = (base.log_prob(start) + log_det).exp()
        normal = MultivariateNormal(base.mean[0], torch.diag(base.variance[0])).log_prob(points)
    cell = float(side[1] - side[0]) ** 2
    assert float(density.sum()) * cell == pytest.approx(1, abs=1e-3)
    assert float((density - normal.exp()).abs().sum()) * cell > 0.2  # it is no longer a Gaussian


def test_drawing_from_a_flow_takes_one_pass_of_each_map():
    flow, passes = flow_bottleneck(4, samples=3), []
    for transform in flow.transforms:
        transform.hyper.register_forward_hook(lambda *_: passes.append(1))
    code, outputs = flow(torch.randn(5, 6), LABELS, draw=True)
    assert (code.shape, outputs["log_ratio"].shape) == ((3, 5, 4), (3, 5))
    assert len(passes) == 3


# Ladders of any height


def test_the_kls_of_levels_are_those_of_torch_and_add_up():
    torch.manual_seed(0)
    ladder = LadderBottleneck((6,), 3, latent=5, top=[4, 3, 2], hidden=8)
    features = torch.randn(5, 6)
    torch.manual_seed(1)
    code, outputs = ladder(features, LABELS, draw=True)
    assert {"kl", "kl_top", "log_ratio", "kl_1", "kl_2", "kl_3", "kl_4"} == ladder.outputs
    levels = [ladder, ladder.above, ladder.above.above]
    seen = [features]
    for level in levels:
        seen.append(level.upwards(seen[-1]))
    torch.manual_seed(1)
    posterior = diagonal(*levels[-1].above.posterior(seen[-1]))
    prior = diagonal(torch.zeros(5, 2), torch.zeros(5, 2))
    log_ratio, kls = torch.zeros(5), []
    for level, features in zip(
        [*reversed(levels), None], [*reversed(seen[:-1]), None], strict=True
    ):
        z = posterior.base_dist.loc + posterior.base_dist.scale * torch.randn(posterior.mean.shape)
        log_ratio = log_ratio + prior.log_prob(z) - posterior.log_prob(z)
        kls.insert(0, kl_divergence(posterior, prior))
        if level is not None:
            below = level.downwards(z).chunk(2, 1)
            prior = diagonal(*below)
            posterior = diagonal(*product_of_gaussians(*level.head(features).chunk(2, 1), *below))
    torch.testing.assert_close(code, z)
    torch.testing.assert_close(outputs["log_ratio"], log_ratio, atol=1e-4, rtol=1e-4)
    for number, kl in enumerate(kls, 1):
        torch.testing.assert_close(outputs[f"kl_{number}"].sum(1), kl, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs["kl"].sum(1), sum(kls), atol=1e-4, rtol=1e-4)
    assert torch.equal(outputs["kl_top"], outputs["kl_4"])


def test_codes_of_a_ladder_come_from_its_prior():
    """At a code drawn from the posterior of nothing seen, that is the prior: log p = log q."""
    torch.manual_seed(0)
    ladder = LadderBottleneck((6,), 3, latent=2, top=[2, 2], hidden=8, samples=20_000)
    with torch.no_grad():
        for level in (ladder, ladder.above, ladder.above.above):
            level.head.weight.zero_()
            level.head.bias[2:] = 0.0 if level is ladder.above.above else 60.0  # log variance
        code, outputs = ladder(torch.zeros(1, 6), torch.zeros(1, 3), draw=True)
        drawn = ladder.sample(torch.zeros(20_000, 3), torch.Generator().manual_seed(0))
    assert outputs["log_ratio"].abs().max() < 1e-3
    torch.testing.assert_close(drawn.mean(0), code.mean((0, 1)), atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.T.cov(), code[:, 0].T.cov(), atol=0.05, rtol=0.05)


def test_weights_of_older_runs_are_loaded():
    renamed = {"above.head.": "top_head.", "prior.head.": "prior_head."}
    for words in (["model=ladder_vae"], ["model=cvae", "model.bottleneck.prior=label"]):
        model, other = (build(*words, "hidden=[8]", f"seed={seed}") for seed in (0, 1))
        old = model.state_dict()
        for new, name in renamed.items():
            old = {key.replace(f"bottleneck.{new}", f"bottleneck.{name}"): old[key] for key in old}
        assert old.keys() != model.state_dict().keys()
        other.load_state_dict(old)
        assert all(map(torch.equal, other.state_dict().values(), model.state_dict().values()))


@pytest.mark.parametrize("words", [VAMP, ["model=flowvae"], ["model=hvae"]])
def test_the_elbo_is_below_the_importance_bound(words):
    from ae_lab.inference.likelihood import bound_log_likelihood

    model = build(*words, "hidden=[16]", "latent=3").eval()
    torch.manual_seed(0)
    elbo, log_p = bound_log_likelihood(model, batch_of(3), 500)
    assert (elbo < log_p).all()
    with torch.no_grad():  # in training codes are drawn
        losses = [model.train().compute_losses(batch_of(3))["loss"] for _ in range(500)]
    losses = torch.stack(losses)
    error = float(losses.std()) * math.sqrt(2 / 500)
    assert float(losses.mean()) == pytest.approx(-float(elbo.mean()), abs=5 * error)
