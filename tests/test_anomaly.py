"""A class left out of training, and whether a run's errors find it."""

import csv

import numpy as np
import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.data import ImageSet, Split
from ae_lab.evaluation.anomaly import AnomalyEvaluator, score
from ae_lab.inference.loaded_run import NotApplicable, load_run


def make_set(n: int = 60) -> ImageSet:
    rng = torch.Generator().manual_seed(0)

    def split() -> Split:
        images = torch.randint(0, 256, (n, 1, 12, 12), dtype=torch.uint8, generator=rng)
        return Split(images, torch.eye(3, dtype=torch.uint8)[torch.arange(n) % 3])

    return ImageSet("s", "S", split(), split(), split(), class_names=("cat", "dog", "cow"))


def test_a_class_is_left_out_of_training_and_validation_alone():
    whole = make_set()
    part = whole.exclude("dog")
    for name in ("train", "val"):
        kept = getattr(whole, name).labels[:, 1] == 0
        assert torch.equal(getattr(part, name).images, getattr(whole, name).images[kept])
        assert not getattr(part, name).labels[:, 1].any()
    assert torch.equal(part.test.images, whole.test.images)
    assert part.fingerprint not in (whole.fingerprint, whole.exclude("cat").fingerprint)
    assert part.fingerprint == make_set().exclude("dog").fingerprint
    assert part.class_names == whole.class_names
    assert whole.exclude(None) is whole
    with pytest.raises(UserError, match=r"data\.exclude=dig is not known: did you mean 'dog'"):
        whole.exclude("dig")


def test_the_area_is_the_share_of_pairs_in_their_order():
    rng = np.random.default_rng(0)
    is_anomaly = rng.random(80) < 0.3
    scores = (rng.normal(size=80) + is_anomaly).round(1)  # with ties
    pairs = scores[is_anomaly][:, None] - scores[~is_anomaly][None]
    found = score(is_anomaly, scores)
    assert found["auroc"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())


def test_average_precision_is_the_mean_precision_where_an_anomaly_is_found():
    rng = np.random.default_rng(0)
    is_anomaly, scores = rng.random(80) < 0.3, rng.normal(size=80)
    found = is_anomaly[np.argsort(-scores)]
    precision = found.cumsum() / np.arange(1, 81)
    assert score(is_anomaly, scores)["average_precision"] == pytest.approx(precision[found].mean())


def test_the_standard_error_is_that_of_repeated_draws():
    rng = np.random.default_rng(0)
    is_anomaly = np.arange(150) < 50
    draws = [score(is_anomaly, rng.exponential(1 + is_anomaly)) for _ in range(300)]
    spread = np.std([one["auroc"] for one in draws])
    assert np.mean([one["auroc_se"] for one in draws]) == pytest.approx(spread, rel=0.15)


def test_a_run_without_a_class_finds_it(run, command):
    trained = run(
        "model=vae", "latent=4", "data.exclude=0", "data.limit=1000", "hidden=[64]", "epochs=3"
    )
    done = command("evaluate", f"run={trained.path}", "evaluator=anomaly")
    assert done.returncode == 0, done.stderr
    [table] = (trained.path / "evaluations").glob("anomaly-*.csv")
    rows = list(csv.DictReader(table.open()))
    data = load_run(trained).data
    is_zero = data.split("test").labels[:, 0]
    assert [int(row["is_anomaly"]) for row in rows] == is_zero.tolist()
    assert list(rows[0]) == [
        "index", "is_anomaly", "PCA", "reconstruction error", "-ELBO"
    ]  # fmt: skip
    found = score(is_zero.numpy(), np.array([float(row["reconstruction error"]) for row in rows]))
    assert found["auroc"] > 0.55  # after a second of training
    assert f"{found['auroc']:.3f} ± {found['auroc_se']:.3f}" in done.stdout
    assert table.with_suffix(".roc.png").is_file()
    assert not data.split("val").labels[:, 0].any()


def test_corrupted_images_are_told_from_clean_ones(run):
    trained = run("hidden=[64]", "data.limit=500", "epochs=3")
    with pytest.raises(NotApplicable, match=r"train one with data.exclude"):
        AnomalyEvaluator().evaluate(load_run(trained))
    with pytest.raises(NotApplicable, match="needs a corruption"):
        AnomalyEvaluator(against="corruption").evaluate(load_run(trained))
    from ae_lab.core import configuration

    noise = configuration.compose(["noise=salt_pepper"]).noise
    evaluation = AnomalyEvaluator(against="corruption", n=50).evaluate(
        load_run(trained, noise=noise)
    )
    assert list(evaluation.rows)[-1] == "reconstruction error"
    assert evaluation.rows["reconstruction error"]["auroc"] > 0.6
    assert evaluation.per_image["is_anomaly"].tolist() == [0] * 50 + [1] * 50
