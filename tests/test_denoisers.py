"""Classical denoisers, alone and beside a run."""

import csv

import numpy as np
import pytest
import torch
from hydra.utils import instantiate

from ae_lab.core import configuration
from ae_lab.core.errors import UserError, root_cause
from ae_lab.evaluation.classical import METHODS, switching_median
from ae_lab.evaluation.denoisers import DenoiserEvaluator, psnr_within, summarize_scores
from ae_lab.inference import load_run


def test_a_switching_median_restores_corrupted_pixels_and_changes_no_other():
    image = np.full((9, 9, 3), 0.4)
    image[4, 5] = 1
    image[0, 0] = 0
    image[8, 8] = (0.0, 1.0, 0.5)  # not corrupted: not all of its channels are black or white
    restored = switching_median(image, 3)
    expected = np.full((9, 9, 3), 0.4)
    expected[8, 8] = (0.0, 1.0, 0.5)
    np.testing.assert_allclose(restored, expected)


@pytest.mark.parametrize("name", sorted(n for n, m in METHODS.items() if not m.takes_mask))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_method_removes_noise_and_keeps_the_shape(name, channels):
    if name.startswith("bm3d"):
        pytest.importorskip("bm3d", reason="pip install 'ae_lab[bench]'")
    ramp = np.linspace(0.3, 0.6, 32)[:, None, None] * np.ones((32, 32, channels))
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 0.1, ramp.shape), 0, 1)
    strength = METHODS[name].strengths[len(METHODS[name].strengths) // 2]
    restored = METHODS[name].denoise(noisy, strength)
    assert restored.shape == ramp.shape
    error, before = np.square(restored - ramp).mean(), np.square(noisy - ramp).mean()
    assert error <= before if name == "switching_median" else error < 0.6 * before


def test_denoisers_get_the_runs_images_and_are_compared_with_it(run, command):
    done = run("noise=salt_pepper", "data.limit=16")
    words = ["evaluator=denoisers", "evaluator.denoisers.methods=[median,switching_median]"]
    words += ["evaluator.denoisers.num_tuning_images=4", "evaluator.denoisers.self_ensemble=true"]
    result = command("evaluate", f"run={done.path}", *words)
    assert result.returncode == 0, result.stderr
    assert "run's gain dB" in result.stdout
    [table] = (done.path / "evaluations").glob("denoisers-*.csv")
    with table.open() as file:
        images = list(csv.DictReader(file))
    assert len(images) == 16
    columns = {name: np.mean([float(image[name]) for image in images]) for name in images[0]}
    assert columns[f"{done.name}/psnr"] == pytest.approx(done.metrics["test/psnr"], rel=1e-4)
    [median] = [name for name in columns if name.startswith("median") and name.endswith("mse")]
    assert columns[median] < columns["corrupted/mse"]
    eight = columns[f"{done.name}, self-ensemble/psnr"]
    assert eight != pytest.approx(columns[f"{done.name}/psnr"], abs=1e-3)
    for name in ("corrupted", done.name):
        gain = eight - columns[f"{name}/psnr"]
        assert columns[f"{name}/run_gain"] == pytest.approx(gain, abs=1e-4)


def test_a_run_is_evaluated_on_all_of_a_split_or_on_its_first_images(run):
    loaded = load_run(run("noise=gaussian", "data.limit=30"))
    for n, expected in ((None, 30), (7, 7)):
        evaluation = DenoiserEvaluator(methods=["median"], n=n, num_tuning_images=2).evaluate(
            loaded
        )
        assert len(evaluation.per_image["corrupted/mse"]) == expected
        assert list(evaluation.rows)[-1] == loaded.run.name


def test_images_that_miss_nothing_do_not_count_among_those_that_do():
    clean, missing = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    missing[0, :, :2] = True
    images = torch.where(missing, 0.1, 0.5)  # 20 dB where it is missing
    quality = psnr_within(images.expand(2, 3, 4, 4), clean, missing)
    assert quality[0].item() == pytest.approx(20, abs=1e-3)
    assert quality[1].isnan()
    assert summarize_scores({"psnr_missing": quality})["psnr_missing"] == quality[0].item()


def test_an_unknown_method_is_refused():
    words = ["evaluator=denoisers", "evaluator.denoisers.methods=[medan]"]
    config = configuration.compose(words, "evaluate")
    with pytest.raises(Exception, match="did you mean 'median'") as caught:
        instantiate(config.evaluator.denoisers)
    assert isinstance(root_cause(caught.value), UserError)
