"""The command `evaluate`: its evaluators, its cache, and evaluators from outside the package."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.evaluation import evaluate, evaluator_number, sample_quality
from ae_lab.evaluation.reconstruction import ReconstructionEvaluator
from ae_lab.evaluation.samples import SampleEvaluator


def evaluated(run, *overrides: str):
    """What the command finds out about a run, by evaluator."""
    return evaluate(configuration.compose([f"run={run.path}", *overrides], "evaluate"))


def files_of(run, pattern: str) -> list[Path]:
    return sorted((run.path / "evaluations").glob(pattern))


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_evaluating_as_trained_gives_the_runs_own_numbers(run):
    done = run("noise=gaussian", "data.limit=64")
    rows = evaluated(done)["reconstruction"].rows
    for name in ("mse", "psnr", "ssim"):
        expected = done.metrics[f"test/{name}"]
        assert rows["reconstruction"][name] == pytest.approx(expected, rel=1e-4)
    [table] = files_of(done, "reconstruction-mnist5k-test-gaussian-*.csv")
    images = read_table(table)
    assert len(images) == 64
    for row in ("corrupted", "reconstruction"):
        mean = np.mean([float(image[f"{row}/psnr"]) for image in images])
        assert mean == pytest.approx(rows[row]["psnr"], rel=1e-5)
    assert table.with_suffix(".extremes.png").is_file()


def test_a_metric_that_a_run_was_configured_with_is_evaluated_too(run):
    done = run("metrics=[default,l1]", "noise=gaussian", "data.limit=64")
    rows = evaluated(done)["reconstruction"].rows
    assert rows["reconstruction"]["l1"] == pytest.approx(done.metrics["test/l1"], rel=1e-4)
    assert 0 < rows["corrupted"]["l1"] != rows["reconstruction"]["l1"]
    [table] = files_of(done, "*.csv")
    assert not any(name.endswith("l1") for name in read_table(table)[0])


def test_other_noise_is_another_evaluation_and_unfit_data_is_refused(run):
    done = run("noise=gaussian", "data.limit=64")
    mild = evaluated(done)["reconstruction"].rows["reconstruction"]
    hard = evaluated(done, "noise=salt_pepper", "noise.amount=0.9")["reconstruction"]
    assert hard.rows["reconstruction"]["mse"] > mild["mse"]
    assert len(files_of(done, "*.csv")) == 2
    with pytest.raises(UserError, match="choose other data"):
        evaluated(done, "data=photos64")
    with pytest.raises(UserError, match="which run"):
        evaluate(configuration.compose([], "evaluate"))


def test_numbers_are_read_again_until_settings_or_weights_change(run, capsys, monkeypatch):
    done, calls = run("data.limit=64"), []
    compute = ReconstructionEvaluator.evaluate

    def counted(self, loaded):
        calls.append(self.split)
        return compute(self, loaded)

    monkeypatch.setattr(ReconstructionEvaluator, "evaluate", counted)
    first = evaluated(done)
    assert "force=true" not in capsys.readouterr().out
    again = evaluated(done)
    assert "read, not computed again (force=true computes)" in capsys.readouterr().out
    assert again["reconstruction"].rows == first["reconstruction"].rows
    assert calls == ["test"]
    evaluated(done, "force=true")
    evaluated(done, "split=val")
    assert calls == ["test", "test", "val"]
    evaluated(done, "noise=none")  # the run's own
    evaluated(done, "data=mnist5k", "data.limit=64")  # the run's own too
    assert len(calls) == 3
    done.best.write_bytes(done.last.read_bytes())
    evaluated(done)
    assert len(calls) == 4


def test_the_command_runs_several_evaluators_and_refuses_mistyped_words(run, command, tmp_path):
    done = run("model=vae", "hidden=[20]", "latent=3")
    words = ["evaluator.likelihood.n=10", "evaluator.likelihood.samples=5"]
    words += ["evaluator.latents.n=60", "evaluator.samples.n=30"]
    names = ["reconstruction", "samples", "latents", "likelihood"]
    cache = {"AE_LAB_CACHE": str(tmp_path / "cache")}
    result = command(
        "evaluate", f"run={done.path}", f"evaluator=[{','.join(names)}]", *words, **cache
    )
    assert result.returncode == 0, result.stderr
    assert [file.name.split("-")[0] for file in files_of(done, "*.json")] == sorted(names)
    for heading in ("PSNR dB", "recall", "trustworthiness", "ELBO"):
        assert heading in result.stdout
    for word, cure in {
        "evaluator=sampels": "did you mean 'samples'?",
        "evaluator.reconstruction.splitt=val": "did you mean 'evaluator.reconstruction.split'?",
        "+evaluator.reconstruction.splitt=val": "did you mean 'split'?",
    }.items():
        refused = command("evaluate", f"run={done.path}", word)
        assert refused.returncode == 2
        assert cure in refused.stderr
        assert refused.stderr.count("\n") == 1


OUTSIDE = """
from ae_lab.evaluation import Evaluation


class Brightness:
    def __init__(self, n):
        self.n = n

    def evaluate(self, loaded):
        batch = loaded.data.eval_batch("test", self.n)
        mean = loaded.reconstruct(batch).mean((1, 2, 3))
        rows = {"reconstruction": {"brightness": float(mean.mean())}}
        return Evaluation("Brightness", rows, per_image={"brightness": mean})
"""


def test_an_evaluator_from_outside_is_one_class_and_one_file(run, command, tmp_path):
    done = run("hidden=[20]")
    (tmp_path / "outside_brightness.py").write_text(OUTSIDE)
    folder = tmp_path / "mine" / "evaluator"
    folder.mkdir(parents=True)
    (folder / "brightness.yaml").write_text(
        "brightness:\n  _target_: outside_brightness.Brightness\n  n: 20\n"
    )
    words = [f"hydra.searchpath=[file://{folder.parent}]", "evaluator=[reconstruction,brightness]"]
    result = command("evaluate", f"run={done.path}", *words, "evaluator.brightness.n=10")
    assert result.returncode == 0, result.stderr
    assert "brightness" in result.stdout
    [table] = files_of(done, "brightness-*.csv")
    assert len(read_table(table)) == 10
    [numbers] = files_of(done, "brightness-*.json")
    assert json.loads(numbers.read_text())["settings"]["_target_"] == "Brightness"


def test_an_experiment_reads_any_number_and_computes_an_evaluation_once(run, tmp_path, monkeypatch):
    monkeypatch.setenv("AE_LAB_CACHE", str(tmp_path / "cache"))
    calls, compute = [], SampleEvaluator.evaluate

    def counted(self, loaded):
        calls.append(self.n)
        return compute(self, loaded)

    monkeypatch.setattr(SampleEvaluator, "evaluate", counted)
    done = run("hidden=[20]", "latent=3")
    assert 0 <= sample_quality(done, "precision", n=30) <= 1
    assert 0 < sample_quality(done, "label confidence", n=30) <= 1
    assert sample_quality(done, "label accuracy", n=30) is None  # the model is not conditional
    options = {"overrides": ["evaluator.samples.n=30", "seed=0"]}
    assert evaluator_number(done, "samples", "recall", row="real images", **options) > 0.5
    assert calls == [30]
    sample_quality(done, "precision", sampler="gmm", n=40)
    assert calls == [30, 40]
    assert evaluator_number(done, "reconstruction", "mse") == pytest.approx(
        done.metrics["test/mse"], rel=1e-4
    )
    assert evaluator_number(done, "likelihood", "elbo") is None
    with pytest.raises(UserError, match="did you mean 'precision'"):
        sample_quality(done, "precison", n=30)
    connected = run("model=unet", "hidden=[4,8]")
    assert sample_quality(connected, "precision", n=30) is None


def test_data_of_the_command_line_are_read_from_where_it_says(run, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    words = ["data=folder", "data.source.size=16", f"paths.cache={tmp_path / 'cache'}"]
    words += ["noise=gaussian"]
    one, two = (f"data.source.path={tmp_path / name}" for name in ("one", "two"))
    done = run("model=cnn", *words, one, "data.limit=2", "batch_size=2")
    evaluated(done, *words, two)
    assert [path.name.split("-")[1] for path in files_of(done, "*.csv")] == ["two"]
