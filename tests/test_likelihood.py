"""Bounds on the likelihood where it is known, and of a run that also generates."""

import json

import pytest
import torch
from torch.distributions import MultivariateNormal

from ae_lab.data import Batch
from ae_lab.inference.likelihood import bound_log_likelihood
from tests.building import build
from tests.tiny_coco import write_coco


def test_the_bounds_of_a_linear_model_meet_its_exact_likelihood():
    """x = W·z + b + σ·ε is normal with covariance W·Wᵀ + σ²·I, whatever the encoder says."""
    words = ["hidden=[]", "output=linear", "likelihood=gaussian", "likelihood.sigma=0.5"]
    model = build("model=vae", "latent=2", *words, "data.shape=[1,2,3]").eval()
    clean = torch.rand(6, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    batch = Batch(clean, clean, torch.zeros(6, 10), torch.arange(6))
    with torch.no_grad():
        model.decoder.to_pixels.weight.mul_(0.5)
        weight, bias = model.decoder.to_pixels.weight, model.decoder.to_pixels.bias
        exact = MultivariateNormal(bias, weight @ weight.T + 0.25 * torch.eye(6))
    torch.manual_seed(0)
    elbo, log_p = bound_log_likelihood(model, batch, 50_000)
    exact = exact.log_prob(clean.flatten(1))
    torch.testing.assert_close(log_p, exact, atol=0.05, rtol=0)
    assert (elbo < exact).all()
    assert model.bottleneck.samples == 1


def test_a_variational_run_generates_and_has_a_likelihood(run, command):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained = run("model=cvae", "data.binarize=true", "hidden=[30]", "latent=2", "noise=gaussian")
    assert {"test/reconstruction", "test/kl", "test/loss"} <= trained.metrics.keys()
    events = EventAccumulator(str(trained.path), size_guidance={"images": 0}).Reload()
    assert {"random codes", "latent grid"} <= set(events.Tags()["images"])
    for sampler in ([], ["sampler=normal"], ["sampler=gmm", "sampler.components=2"]):
        result = command("generate", f"run={trained.path}", "label=7", "n=8", *sampler)
        assert result.returncode == 0, result.stderr
    words = ["evaluator=likelihood", "evaluator.likelihood.n=20", "evaluator.likelihood.samples=50"]
    result = command("evaluate", f"run={trained.path}", *words)
    assert result.returncode == 0, result.stderr
    [file] = (trained.path / "evaluations").glob("likelihood-*.json")
    [numbers] = json.loads(file.read_text())["rows"].values()
    assert numbers["elbo"] < numbers["log_p"] < 0
    assert numbers["elbo_se"] > 0


@pytest.mark.parametrize("words", [["model=mlp"], ["model=mlp", "objective=likelihood"]])
def test_a_run_without_a_likelihood_or_a_distribution_of_codes_is_refused(run, command, words):
    plain = run("hidden=[30]", *words)
    refused = command("evaluate", f"run={plain.path}", "evaluator=likelihood")
    assert refused.returncode == 2
    assert "has no likelihood: take model=vae" in refused.stderr


def test_a_conditional_denoising_convolutional_vae_trains_on_photographs(run, command, tmp_path):
    write_coco(tmp_path)
    words = ["data=coco64", f"paths.data={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
    words += ["noise=speckle", "latent=4", "hidden=[4,4,4]"]
    trained = run("model=cvae", "body=cnn", *words)
    assert trained.config.conditional
    assert {"test/reconstruction", "test/kl", "test/psnr"} <= trained.metrics.keys()
    result = command("generate", f"run={trained.path}", "label=person", "n=4")
    assert result.returncode == 0, result.stderr
