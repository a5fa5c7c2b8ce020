"""Numbers and figures of a run's codes, against codes that are known and against autograd."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from ae_lab.core.errors import UserError
from ae_lab.data import Split
from ae_lab.evaluation import InterpolationEvaluator, code_metrics
from ae_lab.evaluation.classifier import load_or_train_classifier
from ae_lab.inference.loaded_run import load_run
from ae_lab.reporting import first_layer_weights, jacobian_spectrum, kl_per_dimension
from ae_lab.training import ActiveUnits

LABELS = torch.arange(1000) % 10


@pytest.fixture
def planted(monkeypatch):
    """Give code metrics a run of known codes (1000, d) of images with known labels."""

    def plant(codes: torch.Tensor) -> None:
        images = torch.zeros(1000, 1, 4, 4, dtype=torch.uint8)
        split = Split(images, one_hot(LABELS, 10).to(torch.uint8))
        loaded = SimpleNamespace(
            data=SimpleNamespace(split=lambda name: split),
            encode_split=lambda split: codes[: len(split)],
        )
        monkeypatch.setattr(code_metrics, "load_run", lambda run: loaded)

    return plant


def test_a_unit_of_one_class_is_pure_and_one_of_chance_is_not(planted):
    noise = torch.rand(1000, 10, generator=torch.Generator().manual_seed(0))
    planted(one_hot(LABELS, 10) + 0.1 * noise)
    assert code_metrics.unit_purity(None) == 1
    planted(noise)
    assert 0.1 < code_metrics.unit_purity(None) < 0.3  # the largest of ten shares of 50 draws
    half = torch.where(LABELS < 2, 1.0, 0.0).unsqueeze(1) + 0.1 * noise[:, :1]
    planted(torch.cat([half, torch.zeros(1000, 1)], 1))  # a unit that never changes does not count
    assert code_metrics.unit_purity(None, n=200) == 0.5


def test_units_are_counted(planted):
    rng = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.2, 0.05, 0.0])
    planted(torch.randn(1000, 4, generator=rng) * scale)
    assert code_metrics.active_units(None) == 2
    assert code_metrics.dead_units(None) == 0.25
    assert code_metrics.num_nonzero(None) == 3
    assert code_metrics.active_units(None, threshold=0.5) == 1


def test_codes_of_the_prior_are_nearer_to_it_than_others(planted):
    codes = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
    planted(codes)
    assert code_metrics.prior_discrepancy(None) < 0.02
    planted(codes + 1)
    assert code_metrics.prior_discrepancy(None) > 0.5


def test_active_units_over_batches_are_those_of_all_codes():
    codes = torch.randn(300, 5, generator=torch.Generator().manual_seed(0)) + 100
    codes[:, 3:] = 100 + 0.01 * codes[:, 3:]
    metric = ActiveUnits()
    for batch in codes.split(128):
        metric.update(batch, batch, mean=batch)
    assert metric.compute() == int((codes.numpy().var(0, ddof=1) > 0.01).sum()) == 3


def jacobians(loaded, n: int) -> np.ndarray:
    """∂z/∂x (n, latent, pixels) of the first n test images, one image after the other."""
    batch, each = loaded.data.eval_batch("test", n), []
    for image, label in zip(batch.clean, batch.label, strict=True):
        args = (lambda x, y=label: loaded.model.encode(x[None], y[None])[0][0]), image
        each.append(torch.autograd.functional.jacobian(*args).flatten(1))
    return torch.stack(each).numpy()


def test_a_run_is_looked_into(run, tmp_path):
    """One variational run: its metrics while it trains, its Jacobian, lines between its codes."""
    trained = run("model=vae", "hidden=[30]", "latent=4", "metrics=[default,codes]")
    assert 0 <= trained.history[-1]["val/active_units"] <= 4
    assert trained.metrics["test/active_units"] == code_metrics.active_units(trained)
    loaded = load_run(trained)
    exact = jacobians(loaded, 20)
    norm = code_metrics.jacobian_norm(trained, n=20)
    assert norm == pytest.approx(np.square(exact).sum((1, 2)).mean(), rel=1e-4)

    [line] = jacobian_spectrum([trained], n=20).axes[0].lines
    assert line.get_ydata() == pytest.approx(np.linalg.svd(exact)[1].mean(0), rel=1e-3)
    [line] = kl_per_dimension([trained], n=50).axes[0].lines
    output = loaded.predict(50)
    mean, log_variance = (output.bottleneck[name] for name in ("mean", "log_variance"))
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    kl = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).mean(0)
    assert line.get_ydata() == pytest.approx(kl.sort(descending=True).values.tolist(), rel=1e-4)

    evaluation = InterpolationEvaluator(tmp_path).evaluate(loaded)
    ends, between = (row["label confidence"] for row in evaluation.rows.values())
    assert 0.1 < between < 1
    classifier = load_or_train_classifier(loaded.data.images, tmp_path)
    test = loaded.data.split("test")  # of an even number of images: each is an end
    decoded = loaded.decode(loaded.encode_split(test), test.labels.float())
    probability = classifier.classify(decoded)[1]
    assert ends == pytest.approx(float(probability.max(1).values.mean()), rel=1e-5)


def test_weights_of_the_first_layer_are_images_around_gray(run):
    trained = run("hidden=[30]", "latent=4", "condition_encoder=true")
    panels = first_layer_weights([trained], n=3).axes
    weight = next(load_run(trained).model.encoder.parameters()).detach()[:, : 28 * 28]
    strongest = weight[weight.norm(dim=1).argmax()].reshape(28, 28)
    shown = np.asarray(panels[0].images[0].get_array())
    assert shown == pytest.approx(0.5 + (strongest / strongest.abs().max() / 2).numpy(), abs=1e-6)
    assert kl_per_dimension([trained]) is None


def test_what_cannot_be_shown_is_said(run, tmp_path):
    with pytest.raises(UserError, match=r"interpolation\.n must be an integer >= 1, got 0"):
        InterpolationEvaluator(tmp_path, n=0)
    with pytest.raises(UserError, match="metric active_units requires mean of the bottleneck"):
        run("metrics=[default,codes]")
