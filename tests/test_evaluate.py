"""Finished runs on other noise, and classical denoisers beside them."""

import csv

import numpy as np
import pytest
import torch

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.evaluation.classical import METHODS, switching_median
from ae_lab.evaluation.denoisers import baselines
from ae_lab.evaluation.reconstruction import evaluate


def composed(name: str, tmp_path, *overrides: str):
    return configuration.compose([f"paths.outputs={tmp_path}", *overrides], name)


def table_of(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_evaluating_as_trained_gives_the_runs_own_figures(run, tmp_path):
    done = run("noise=gaussian", "data.limit=64")
    means = evaluate(composed("evaluate", tmp_path, f"run={done.path}"))
    for name, value in means.items():
        assert value == pytest.approx(done.metrics[f"test/{name}"], rel=1e-4)
    [table] = (done.path / "evaluated").glob("*.csv")
    rows = table_of(table)
    assert len(rows) == 64
    assert np.mean([float(row["psnr"]) for row in rows]) == pytest.approx(means["psnr"], rel=1e-5)
    assert table.with_suffix(".png").is_file()


def test_other_noise_is_another_evaluation_and_unfit_data_is_refused(run, tmp_path):
    done = run("noise=gaussian", "data.limit=64")
    mild = evaluate(composed("evaluate", tmp_path, f"run={done.path}"))
    hard = evaluate(
        composed("evaluate", tmp_path, f"run={done.path}", "noise=salt_pepper", "noise.amount=0.9")
    )
    assert hard["mse"] > mild["mse"]
    assert len(list((done.path / "evaluated").glob("*.csv"))) == 2
    with pytest.raises(UserError, match="choose other data"):
        evaluate(composed("evaluate", tmp_path, f"run={done.path}", "data=photos64"))
    with pytest.raises(UserError, match="which run"):
        evaluate(composed("evaluate", tmp_path))


def test_a_switching_median_mends_what_is_struck_and_nothing_else():
    image = np.full((9, 9, 3), 0.4)
    image[4, 5] = 1
    image[0, 0] = 0
    image[8, 8] = (0.0, 1.0, 0.5)  # not struck: not all of its channels are black or white
    mended = switching_median(image, 3)
    expected = np.full((9, 9, 3), 0.4)
    expected[8, 8] = (0.0, 1.0, 0.5)
    np.testing.assert_allclose(mended, expected)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_method_removes_noise_and_keeps_the_shape(name, channels):
    if name.startswith("bm3d"):
        pytest.importorskip("bm3d", reason="pip install 'ae_lab[bench]'")
    ramp = np.linspace(0.3, 0.6, 32)[:, None, None] * np.ones((32, 32, channels))
    noisy = np.clip(ramp + np.random.default_rng(0).normal(0, 0.1, ramp.shape), 0, 1)
    strength = METHODS[name].strengths[len(METHODS[name].strengths) // 2]
    restored = METHODS[name].restore(noisy, strength)
    assert restored.shape == ramp.shape
    error, before = np.square(restored - ramp).mean(), np.square(noisy - ramp).mean()
    assert error <= before if name == "switching_median" else error < 0.6 * before


def test_baselines_see_what_the_run_saw_and_stand_beside_it(run, tmp_path):
    done = run("noise=salt_pepper", "data.limit=16")
    asked = ["data=mnist5k", "data.limit=16", "noise=salt_pepper", f"run={done.path}"]
    asked += ["methods=[median,switching_median]", "tuned_on=4"]
    scored = baselines(composed("baselines", tmp_path, *asked))
    seen, *_, ours = scored.values()
    assert float(ours["psnr"].mean()) == pytest.approx(done.metrics["test/psnr"], rel=1e-4)
    medians = [scores for name, scores in scored.items() if name.startswith("median")]
    assert float(medians[0]["mse"].mean()) < float(seen["mse"].mean())
    [table] = (tmp_path / "baselines").glob("*.csv")
    assert len(table_of(table)) == 16 * len(scored)
    with pytest.raises(UserError, match="did you mean 'median'"):
        baselines(composed("baselines", tmp_path, "data=mnist5k", "methods=[medan]"))


def test_a_run_is_scored_on_all_of_a_split(run, tmp_path):
    done = run("data.limit=100")
    scored = baselines(
        composed(
            "baselines", tmp_path, "data=mnist5k", "noise=none", "methods=[]", f"run={done.path}"
        )
    )
    assert all(len(scores["mse"]) == 500 for scores in scored.values())
    assert torch.isfinite(scored[done.name]["psnr"]).all()


def test_data_of_the_command_line_are_read_from_where_it_says(run, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    cache = f"paths.cache={tmp_path / 'cache'}"
    asked = ["data=folder", "data.source.size=16", cache, "noise=gaussian"]
    done = run("model=cnn", *asked, f"path={tmp_path / 'one'}", "data.limit=2", "batch_size=2")
    evaluate(
        composed("evaluate", tmp_path, f"run={done.path}", *asked[:3], f"path={tmp_path / 'two'}")
    )
    assert [path.name.split("-")[0] for path in (done.path / "evaluated").glob("*.csv")] == ["two"]
