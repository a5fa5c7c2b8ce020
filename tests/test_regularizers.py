"""Terms that shape the code, against closed forms, finite differences and their own definitions."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from ae_lab.data import Batch
from ae_lab.models import (
    DeadUnitLoss,
    JacobianNorm,
    MaximumMeanDiscrepancy,
    SparsityKL,
    TopKBottleneck,
    TotalCorrelation,
)
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.regularizers import inverse_multiquadric, radial_basis, squared_mmd
from tests.building import build

FAMILIES = ["sparse", "sparse_l1", "topk", "contractive", "rae", "rae_gp", "wae", "infovae"]
FAMILIES += ["beta_tcvae", "vampvae", "flowvae", "hvae"]
SMALL = ["latent=12", "hidden=[16]"]


def batch_of(n: int) -> Batch:
    clean = torch.rand(n, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    return Batch(clean, clean, torch.eye(10)[torch.arange(n) % 10], torch.arange(n))


def output_of(code: torch.Tensor, **bottleneck: torch.Tensor) -> AutoencoderOutput:
    nothing = torch.zeros(len(code), 1, 1, 1)
    return AutoencoderOutput(nothing, nothing, nothing, code, nothing, nothing, bottleneck)


@pytest.mark.parametrize("words", [[], ["body=cnn", "noise=gaussian", "conditional=true"]])
@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_trains_with_any_body(family, words, run):
    done = run(f"model={family}", *SMALL, "data.limit=64", *words)
    assert math.isfinite(done.metrics["test/loss"])
    assert done.metrics["test/mse"] < 0.3


# Sparsity


def test_the_sparsity_term_is_the_kl_of_bernoulli_variables():
    code = torch.rand(50, 3)
    expected = sum(
        torch.distributions.kl_divergence(
            torch.distributions.Bernoulli(0.1), torch.distributions.Bernoulli(mean)
        )
        for mean in code.mean(0)
    )
    torch.testing.assert_close(SparsityKL(0.1)(output_of(code), None), expected)


def test_sparsity_reaches_its_target(run):
    from ae_lab.inference import load_run

    words = ["model=sparse", "latent=64", "hidden=[128]", "data.limit=2000", "epochs=15"]
    done = run(*words, "objective.sparsity.target=0.1", "data=mnist5k", "batch_size=100")
    loaded = load_run(done)
    with torch.no_grad():
        batch = loaded.data.eval_batch("test")
        code, _, _ = loaded.model.encode(batch.corrupted, batch.label)
    assert code.mean() == pytest.approx(0.1, rel=0.1)


def test_top_k_keeps_the_k_largest_and_counts_idle_images():
    torch.manual_seed(0)
    bottleneck = TopKBottleneck((6,), 0, latent=20, k=4, num_revived=3, dead_after=100)
    features = torch.randn(30, 6)
    code, outputs = bottleneck(features, torch.zeros(30, 0), draw=True)
    values = bottleneck.head(features)
    assert ((code != 0).sum(1) <= 4).all()
    for row, row_values in zip(code, values, strict=True):
        kept = row_values.sort(descending=True).values[:4].clamp_min(0)
        assert torch.equal(row.sort(descending=True).values[:4], kept)
    assert not outputs["dead_code"].any()
    active = (code > 0).any(0)
    assert torch.equal(bottleneck.idle, torch.where(active, 0.0, 30.0))
    with torch.no_grad():
        bottleneck.head.bias[5] = -50.0
    for _ in range(4):
        _, outputs = bottleneck(features, torch.zeros(30, 0), draw=True)
    assert bottleneck.idle[5] >= 100
    assert not outputs["dead_code"][:, bottleneck.idle < 100].any()
    bottleneck.eval()
    before = bottleneck.idle.clone()
    bottleneck(features, torch.zeros(30, 0), draw=False)
    assert torch.equal(bottleneck.idle, before)


def test_dead_units_alone_learn_from_what_is_left_over():
    model = build("model=topk", *SMALL, "model.bottleneck.k=2")
    active = (model(batch_of(8)).code > 0).any(0)
    assert 2 <= active.sum() < 12
    model.bottleneck.idle.fill_(1e6)
    DeadUnitLoss()(model(batch_of(8)), model).backward()
    gradient = model.bottleneck.head.weight.grad
    assert gradient[~active].abs().sum() > 0
    assert not gradient[active].any()
    model.bottleneck.idle.zero_()
    assert DeadUnitLoss()(model(batch_of(8)), model) == 0


# Jacobians


@pytest.mark.parametrize("family", ["contractive", "rae_gp"])
def test_the_norm_of_a_jacobian_of_compiled_parts_is_the_same(family):
    model = build(f"model={family}", "latent=3", "hidden=[8]")
    expected = model.compute_losses(batch_of(4))
    for part in (model.encoder, model.bottleneck, model.decoder):
        part.compile(backend="eager")  # the same graphs, without a compiler's wait
    actual = model.compute_losses(batch_of(4))
    torch.testing.assert_close(actual, expected)
    actual["loss"].backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("latent", [3, 40])
@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_the_norm_of_a_jacobian_is_that_of_finite_differences(part, latent):
    model = build("model=mlp", f"latent={latent}", "hidden=[12]", "activation=tanh").double().eval()
    batch = batch_of(2)
    batch = Batch(batch.clean.double(), batch.corrupted.double(), batch.label.double(), batch.index)
    output = model(batch)

    def map_of(row: int, values: torch.Tensor) -> torch.Tensor:
        label = batch.label[row : row + 1]
        if part == "encoder":
            return model.encode(values.reshape(1, 1, 28, 28), label)[0].flatten()
        return model.decode_images(values.reshape(1, -1), label).flatten()

    inputs = batch.corrupted.flatten(1) if part == "encoder" else output.code
    total = 0.0
    with torch.no_grad():
        for row, values in enumerate(inputs):
            for place in range(len(values)):
                step = torch.zeros_like(values)
                step[place] = 1e-4
                change = map_of(row, values + step) - map_of(row, values - step)
                total += float((change / 2e-4).square().sum()) / len(inputs)
    probes = 1 if latent == 3 else 4000
    model.float()
    output = model(batch_of(2))
    torch.manual_seed(0)
    found = JacobianNorm(part, probes=probes)(output, model)
    assert float(found) == pytest.approx(total, rel=1e-3 if latent == 3 else 0.05)


def test_the_norm_of_a_jacobian_is_taken_in_evaluation_and_in_validation_too():
    words = ["latent=6", "hidden=[16]", "norm=batch", "dropout=0.5"]
    model = build("model=contractive", *words).train()
    output = model(batch_of(8))
    before = [buffer.clone() for buffer in model.buffers()]
    term = JacobianNorm()
    first = term(output, model)
    assert torch.equal(first, term(output, model))
    assert all(map(torch.equal, before, model.buffers()))
    assert all(part.training for part in model.modules())
    with torch.inference_mode():
        inferred = term(model(batch_of(8)), model.eval())
    assert inferred.isfinite()


# Distances to a prior


@pytest.mark.parametrize("kernel", [inverse_multiquadric, radial_basis])
def test_the_discrepancy_of_equal_samples_is_0_and_of_others_is_not(kernel):
    torch.manual_seed(0)
    sample = torch.randn(60, 4)
    assert squared_mmd(sample, sample[torch.randperm(60)], kernel).abs() < 1e-5
    near = squared_mmd(sample, torch.randn(60, 4), kernel)
    far = squared_mmd(sample, torch.randn(60, 4) + 2, kernel)
    assert 0 < near < far / 5


def test_the_discrepancy_of_normals_is_the_closed_form():
    """E exp(-‖x - y‖²/C) of normals N(m, s² I) and N(n, t² I) is (C/(C+2(s²+t²)))^(d/2) times
    exp(-‖m - n‖²/(C + 2(s² + t²)))."""
    torch.manual_seed(0)
    dimensions, shift = 3, 1.5
    x, y = torch.randn(1500, dimensions), torch.randn(1500, dimensions) * 0.5 + shift

    def expected(difference: float, variance: float) -> float:
        total = 0.0
        for scale in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
            size = 2 * dimensions * scale
            width = size + 2 * variance
            total += (size / width) ** (dimensions / 2) * math.exp(-(difference**2) / width)
        return total

    distance = shift * math.sqrt(dimensions)
    closed = expected(0, 2) + expected(0, 0.5) - 2 * expected(distance, 1.25)
    assert float(squared_mmd(x, y, radial_basis)) == pytest.approx(closed, rel=0.05)


def test_codes_are_compared_with_draws_of_the_models_own_prior():
    words = ["model.bottleneck.prior=label", "model.bottleneck.samples=3"]
    model, term = build("model=infovae", "hidden=[8]", "latent=2", *words), MaximumMeanDiscrepancy()
    output = model(batch_of(60))
    with torch.no_grad():
        model.bottleneck.prior.head.weight[:2] = 4.0  # the means
        far = float(term(output, model))
        labels = output.label.repeat(3, 1)
        output.code = model.bottleneck.sample(labels, torch.default_generator).view(3, 60, 2)
        near = float(term(output, model))
    assert 0 < near < far / 10


# Total correlation


def total_correlation(code, mean, log_variance) -> float:
    return float(TotalCorrelation()(output_of(code, mean=mean, log_variance=log_variance), None))


def test_total_correlation_is_0_for_independent_codes_and_the_closed_form_for_normal_ones():
    torch.manual_seed(0)
    n, noise = 3000, 0.3
    for correlation in (0.0, 0.8):
        covariance = torch.tensor([[1.0, correlation], [correlation, 1.0]])
        mean = MultivariateNormal(torch.zeros(2), covariance).sample((n,))
        log_variance = torch.full_like(mean, 2 * math.log(noise))
        code = mean + noise * torch.randn_like(mean)
        whole = covariance + noise**2 * torch.eye(2)
        expected = 0.5 * float(whole.diagonal().log().sum() - whole.logdet())
        assert total_correlation(code, mean, log_variance) == pytest.approx(expected, abs=0.03)


def test_the_total_correlation_of_one_dimension_is_0():
    mean = torch.randn(50, 1)
    assert total_correlation(mean, mean, torch.zeros_like(mean)) == pytest.approx(0, abs=1e-5)
