"""Quantised codes: gradients, codebooks against their definitions, usage, runs."""

import math

import pytest
import torch
from torch import nn
from vector_quantize_pytorch import FSQ, ResidualVQ, VectorQuantize

from ae_lab.core import trust
from ae_lab.core.errors import UserError, root_cause
from ae_lab.inference import Autoregressive, load_run
from ae_lab.models import QuantizedBottleneck
from ae_lab.training import CodebookPerplexity, CodebookUsage
from tests.building import build

SIZES = ["hidden=[16]", "latent=4", "data.limit=64", "batch_size=16"]


def bottleneck(name: str, *overrides: str) -> QuantizedBottleneck:
    """That of `model=name`, between layers of 16 units, 4 tokens long."""
    return build(f"model={name}", *SIZES, *overrides).bottleneck


def features(n: int = 5) -> torch.Tensor:
    return torch.randn(n, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["vqvae", "rvq"])
def test_the_gradient_of_the_features_is_that_of_the_code(name):
    model = bottleneck(name)
    direction = torch.randn(model.shape, generator=torch.Generator().manual_seed(1))
    x = features().requires_grad_()
    [actual] = torch.autograd.grad((model(x, None, True)[0] @ direction).sum(), x)
    [expected] = torch.autograd.grad((model.head(x) @ direction).sum(), x)
    torch.testing.assert_close(actual, expected)


def test_the_gradient_of_a_grid_passes_the_tanh_that_bounds_it():
    model = bottleneck("fsq")
    tokens = torch.zeros(1, 1, 4, requires_grad=True)
    model.quantizer(tokens)[0].sum().backward()
    bounded = torch.zeros(1, 1, 4, requires_grad=True)
    levels = torch.tensor([8, 5, 5, 5])
    half = (levels - 1) * 1.001 / 2
    shift = torch.where(levels % 2 == 0, 0.5, 0.0).div(half).atanh()
    ((bounded + shift).tanh() * half / (levels // 2)).sum().backward()
    torch.testing.assert_close(tokens.grad, bounded.grad)


def test_the_commitment_is_the_squared_distance_and_the_same_in_training_and_after():
    model = bottleneck("vqvae")
    tokens = model.to_tokens(model.head(features()))
    distances = torch.cdist(tokens, model.quantizer.codebook.clone()).square()
    nearest = distances.min(-1)
    for training in (False, True):
        code, outputs = model.train(training)(features(), None, training)
        torch.testing.assert_close(outputs["commitment"], nearest.values.sum(1))
        assert torch.equal(outputs["indices"].squeeze(2), nearest.indices)
    assert outputs["index_counts"].sum() == 5 * 4
    assert code.shape == (5, 4 * 16)


@pytest.mark.parametrize("name", ["vqvae", "fsq", "rvq"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_the_code_is_what_its_indices_stand_for(name, body):
    model = build(f"model={name}", f"body={body}", *SIZES).bottleneck.eval()
    shape = (16,) if body == "mlp" else (16, 14, 14)
    code, outputs = model(torch.randn(3, *shape), None, False)
    assert code.shape == (3, *model.shape)
    assert outputs["indices"].shape == (3, model.num_tokens, model.levels)
    torch.testing.assert_close(model.look_up(outputs["indices"]), code, atol=1e-6, rtol=1e-5)
    assert torch.equal(model.to_code(model.to_tokens(code)), code)


def test_maps_are_quantised_at_each_place():
    model = build("model=vqvae", "body=cnn", *SIZES).bottleneck.eval()
    maps = torch.randn(2, 16, 14, 14)
    code = model(maps, None, False)[0]
    vector = model.head(maps)[1, :, 3, 5]
    nearest = torch.cdist(vector[None], model.quantizer.codebook).argmin()
    torch.testing.assert_close(code[1, :, 3, 5], model.quantizer.codebook[nearest])


def test_a_codebook_is_the_moving_average_of_the_tokens_that_chose_it():
    model = VectorQuantize(dim=2, codebook_size=3, decay=0.9, eps=0.0, rotation_trick=False)
    codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    model.codebook = codebook
    model._codebook.embed_avg.copy_(codebook)
    tokens = torch.tensor([[[0.2, 0.0], [0.0, 0.4], [1.0, 2.0]]])
    model(tokens)
    sizes = 0.9 * torch.ones(3) + 0.1 * torch.tensor([2.0, 1.0, 0.0])
    sums = 0.9 * codebook + 0.1 * torch.tensor([[0.2, 0.4], [1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(model._codebook.cluster_size[0], sizes)
    torch.testing.assert_close(model.codebook, sums / sizes[:, None])


def test_an_entry_that_nobody_chooses_becomes_a_token_in_training_and_its_averages_too():
    model = bottleneck("vqvae", "model.bottleneck.quantizer.codebook_size=8")
    state = model.quantizer._codebook
    state.embed[0, 3], state.embed_avg[0, 3], state.cluster_size[0, 3] = 1e3, 50.0, 0.05
    model.eval()(features(), None, False)
    assert state.embed[0, 3].eq(1e3).all()
    model.train()(features(), None, True)
    tokens = model.to_tokens(model.head(features())).flatten(0, 1)
    assert torch.cdist(state.embed[0, 3:4], tokens).min() < 1e-5
    assert state.cluster_size[0, 3] == 1
    torch.testing.assert_close(state.embed_avg[0, 3], state.embed[0, 3])


def test_validation_changes_no_codebook():
    model = bottleneck("rvq").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(features(), None, False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_codes_of_a_grid_lie_on_it():
    model = bottleneck("fsq")
    code = model(3 * features(200), None, False)[0]
    for dimension, levels in enumerate([8, 5, 5, 5]):
        steps = model.to_tokens(code)[..., dimension] * (levels // 2)
        torch.testing.assert_close(steps, steps.round())
        assert -(levels // 2) <= steps.min() < steps.max() <= (levels - 1) // 2


def test_each_level_leaves_less_over():
    torch.manual_seed(0)
    quantizer = ResidualVQ(
        dim=4, num_quantizers=4, codebook_size=32, decay=0.8, rotation_trick=False,
        threshold_ema_dead_code=1,
    )  # fmt: skip
    tokens = torch.randn(1, 1000, 4)
    for _ in range(30):
        quantizer(tokens)
    codes = quantizer.eval()(tokens, return_all_codes=True)[3]
    left = (tokens - codes.cumsum(0)).square().sum(-1).flatten(1).mean(1)
    assert (left.diff() < 0).all()
    assert left[-1] < 0.1 * left[0]


def test_usage_and_perplexity_over_an_epoch():
    usage, perplexity = CodebookUsage(), CodebookPerplexity()

    def values(*batches: list[list[int]]) -> tuple[float, float]:
        for metric in (usage, perplexity):
            metric.reset()
            for counts in batches:
                metric.update(None, None, torch.tensor(counts))
        return float(usage.compute()), float(perplexity.compute())

    assert values([[5, 5, 5, 5]]) == pytest.approx((1, 4))
    assert values([[9, 0, 0, 0]]) == pytest.approx((0.25, 1))
    assert values([[9, 0, 0, 0]], [[0, 9, 0, 0]]) == pytest.approx((0.5, 2))
    assert values([[4, 4], [8, 0]]) == pytest.approx((0.75, 1.5))  # two levels
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert values([[1, 1]], [[2, 0]]) == pytest.approx((1, math.exp(entropy)))


def test_levels_that_are_dropped_out_are_not_counted():
    model = bottleneck("rvq", "+model.bottleneck.quantizer.quantize_dropout=true")
    torch.manual_seed(0)
    fewer = [model(features(), None, True)[1]["index_counts"].sum(1) for _ in range(10)]
    assert all(counts[0] == 20 and set(counts.tolist()) <= {0, 20} for counts in fewer)
    assert min(counts[-1] for counts in fewer) == 0


@pytest.mark.parametrize("name", ["vqvae", "fsq", "rvq"])
@pytest.mark.parametrize("body", ["mlp", "cnn"])
def test_a_family_trains_and_tests_its_codebook(name, body, run):
    noise, condition = {"mlp": ("speckle", "true"), "cnn": ("gaussian", "false")}[body]
    finished = run(f"model={name}", f"body={body}", *SIZES, f"noise={noise}",
                   f"conditional={condition}")  # fmt: skip
    assert 0 < finished.metrics["test/codebook_usage"] <= 1
    assert finished.metrics["test/codebook_perplexity"] >= 1
    assert "val/codebook_usage" in finished.history[0]
    assert ("test/commitment" in finished.metrics) == (name != "fsq")


def test_what_does_not_fit_is_refused_in_one_line(monkeypatch):
    with pytest.raises(Exception, match="vqvae for objective=quantized") as refused:
        build("model=mlp", "objective=quantized")
    assert isinstance(root_cause(refused.value), UserError)
    with pytest.raises(Exception, match="codebook_usage requires index_counts"):
        build("model=mlp", "metrics=[default,codebook]")
    with pytest.raises(Exception, match="latent must be an integer >= 1"):
        build("model=vqvae", "latent=0")
    with pytest.raises(Exception, match="codebook_size must be an integer >= 1"):
        build("model=vqvae", "model.bottleneck.quantizer.codebook_size=0")
    with pytest.raises(Exception, match=r"dim, .* must be an integer >= 1"):
        build("model=vqvae", "model.bottleneck.quantizer.dim=0")
    monkeypatch.setattr(trust, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"pip install 'ae_lab\[quantized\]'"):
        trust.check_installed("vector_quantize_pytorch.FSQ")
    with pytest.raises(UserError, match=r"pip install 'ae_lab\[flows\]'"):
        trust.check_installed("zuko.flows.MaskedAutoregressiveTransform")


def test_run_folders_may_name_its_quantisers():
    for kind in (FSQ, ResidualVQ, VectorQuantize):
        assert issubclass(kind, nn.Module)
        assert trust.is_part(f"vector_quantize_pytorch.{kind.__name__}")
    assert not trust.is_part("vector_quantize_pytorch.SimVQ")


def test_a_learned_prior_draws_sequences_of_its_label():
    """Label 0: an index and its double. Label 1: 7 at each place."""
    first = torch.randint(4, (2000, 1), generator=torch.Generator().manual_seed(0))
    pairs = torch.where(torch.arange(2000)[:, None] % 2 == 0, torch.cat([first, 2 * first], 1), 7)
    labels = torch.eye(2)[torch.arange(2000) % 2]
    prior = Autoregressive(hidden=32, steps=300, lr=1e-2)
    for indices in (pairs[:, :, None], pairs[:, None]):  # two tokens, or one of two levels
        prior.fit(indices, labels, size=8, seed=0)
        drawn = prior.sample(torch.eye(2)[[0] * 500 + [1] * 500], torch.Generator().manual_seed(0))
        assert drawn.shape == (1000, *indices.shape[1:])
        drawn = drawn.flatten(1)
        assert (drawn[:500, 1] == 2 * drawn[:500, 0]).float().mean() > 0.97
        assert (drawn[500:] == 7).float().mean() > 0.97
        shares = drawn[:500, 0].bincount(minlength=8)[:4] / 500
        torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.08, rtol=0)
        with torch.no_grad():
            nats = -prior.log_prob(indices, labels).view(-1, 2).mean(0)
        assert float(nats[0]) == pytest.approx(math.log(4), abs=0.1)
        assert float(nats[1]) == pytest.approx(0, abs=0.05)


def test_no_index_depends_on_those_after_it():
    prior = Autoregressive(hidden=8)
    prior.build((3, 2), size=5, num_labels=1, seed=0)
    indices, label = torch.zeros(1, 3, 2, dtype=torch.long), torch.ones(1, 1)
    total = torch.zeros(())
    for rest in torch.cartesian_prod(*[torch.arange(5)] * 3):  # the last three sum to 1
        ended = indices.flatten(1).clone()
        ended[0, 3:] = rest
        total = total + prior.log_prob(ended.view(1, 3, 2), label).exp().sum()
    head = indices.flatten(1).clone()
    first = torch.cat([prior.first(1), prior.embed(head.view(1, 3, 2))[:, :2]], 1)
    states, _ = prior.units(first + prior.place[:3], prior.initial_state(label))
    expected = prior.head(states).log_softmax(2)[0, :, 0].sum().exp()
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize(("name", "body"), [("vqvae", "cnn"), ("rvq", "mlp"), ("fsq", "cnn")])
def test_random_codes_are_codes_of_the_codebook(name, body, run):
    finished = run(f"model={name}", f"body={body}", *SIZES, "conditional=true")
    loaded = load_run(finished)
    sampler = Autoregressive(hidden=16, steps=5)
    codes, labels = loaded.sample_codes(12, None, sampler, 0)
    bottleneck = loaded.model.bottleneck
    again = bottleneck.quantize(bottleneck.to_tokens(codes))[0]
    if name == "vqvae":  # a grid bounds what it gets, and levels choose one after the other
        torch.testing.assert_close(bottleneck.to_code(again), codes)
    assert loaded.decode(codes, labels).shape == (12, 1, 28, 28)
    repeated = loaded.sample_codes(12, None, sampler, 0)[0]
    assert torch.equal(codes, repeated)
    assert isinstance(loaded.default_sampler(), Autoregressive)


def test_commands_sample_by_a_learned_prior(run, command):
    finished = run("model=vqvae", "body=cnn", *SIZES)
    words = [f"run={finished.path}", "sampler=autoregressive", "sampler.steps=3"]
    assert command("generate", *words, "n=8").returncode == 0
    scored = command(
        "evaluate", *words, "evaluator=samples", "evaluator.samples.n=50", "sampler.hidden=16"
    )
    assert scored.returncode == 0, scored.stderr
    assert "autoregressive (hidden=16, steps=3)" in scored.stdout
    assert command("evaluate", f"run={finished.path}").returncode == 0
    plain = run("model=mlp", "hidden=[8]", "latent=2", "data.limit=64")
    refused = command("generate", f"run={plain.path}", "sampler=autoregressive")
    assert refused.returncode == 2
    assert "sampler=autoregressive is for quantised codes" in refused.stderr
