"""Where random codes come from."""

import numpy as np
import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.inference import Flow, Mixture, Normal, Prior, StandardNormal
from ae_lab.inference.samplers import describe_sampler, sampler_by_name


def test_a_mixture_samples_where_the_codes_are():
    torch.manual_seed(0)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 3.0], [0.0, -6.0]])
    codes = centres[torch.arange(3000) % 3] + 0.3 * torch.randn(3000, 2)
    mixture = Mixture(components=3)
    mixture.fit(codes, seed=0)
    samples = mixture.sample(3000, torch.Generator().manual_seed(0))
    nearest = torch.cdist(samples, centres).min(1)
    assert nearest.values.max() < 2
    assert nearest.indices.bincount().min() > 850
    with pytest.raises(UserError, match=r"sampler\.components=2"):
        mixture.fit(codes[:4], seed=0)


@pytest.mark.parametrize(
    ("sampler", "mean", "deviation"),
    [(Normal(), 7, 3), (StandardNormal(), 0, 1)],
    ids=["fitted", "N(0, I)"],
)
def test_a_normal_distribution_is_that_of_the_codes_or_none_of_theirs(sampler, mean, deviation):
    sampler.fit(7 + 3 * torch.randn(5000, 2, generator=torch.Generator().manual_seed(1)), seed=0)
    samples = sampler.sample(5000, torch.Generator().manual_seed(0))
    assert samples.mean(0).tolist() == pytest.approx([mean] * 2, abs=0.15)
    assert samples.std(0).tolist() == pytest.approx([deviation] * 2, rel=0.05)


def test_samplers_have_names_and_say_what_was_changed():
    samplers = [Normal(), StandardNormal(), Prior(), Mixture(), Mixture(3), Flow(steps=5)]
    names = ["normal", "standard normal", "prior", "mixture"]
    names += ["mixture (components=3)", "flow (steps=5)"]
    assert [describe_sampler(sampler) for sampler in samplers] == names
    assert isinstance(sampler_by_name("gmm"), Mixture)
    assert sampler_by_name(None) is None
    with pytest.raises(UserError, match="did you mean 'normal'"):
        sampler_by_name("norml")


OUTSIDE = """
class Bootstrap:
    def __init__(self, jitter=0.0):
        self.jitter = jitter

    def fit(self, codes, seed):
        self.codes = codes

    def sample(self, n, generator):
        import torch

        chosen = torch.randint(len(self.codes), (n,), generator=generator)
        return self.codes[chosen] + self.jitter
"""


def test_a_sampler_from_outside_is_one_class_and_one_file(run, command, tmp_path):
    trained = run("hidden=[20]", "latent=3")
    (tmp_path / "outside_sampler.py").write_text(OUTSIDE)
    folder = tmp_path / "mine" / "sampler"
    folder.mkdir(parents=True)
    (folder / "bootstrap.yaml").write_text("_target_: outside_sampler.Bootstrap\njitter: 0.0\n")
    words = [f"run={trained.path}", f"hydra.searchpath=[file://{folder.parent}]"]
    words += ["sampler=bootstrap"]
    result = command("generate", *words, "n=8")
    assert result.returncode == 0, result.stderr
    [arrays] = (trained.path / "generated").glob("bootstrap-*.npz")
    assert np.load(arrays)["codes"].shape == (8, 3)
    cache = {"AE_LAB_CACHE": str(tmp_path / "cache")}
    words += ["evaluator=samples", "evaluator.samples.n=30", "sampler.jitter=0.5"]
    result = command("evaluate", *words, **cache)
    assert result.returncode == 0, result.stderr
    assert "generated, bootstrap (jitter=0.5)" in result.stdout
