"""What codes are worth: the measures where the answer is known, and the command."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from ae_lab.evaluation.latents import by_pca, by_tsne, measure, principal


def clouds(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds far apart in eight dimensions, and which one a point is of."""
    chance = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    return chance.normal(size=(n, 8)) + 30 * np.eye(3, 8)[kind], kind


def test_codes_that_tell_all_and_codes_that_tell_nothing():
    (train, known), (test, asked) = clouds(300, 0), clouds(150, 1)
    itself = measure(train, test, known, asked, test)
    assert itself == {"nearest neighbours": 1, "linear probe": 1, "trustworthiness": 1}
    chance = np.random.default_rng(2)
    noise = [chance.normal(size=(n, 2)) for n in (300, 150)]
    nothing = measure(*noise, known, asked, test)
    assert nothing["nearest neighbours"] < 0.5
    assert nothing["linear probe"] < 0.5
    assert nothing["trustworthiness"] < 0.7


def test_projections_keep_clouds_apart():
    points, kind = clouds(150, 0)
    for project in (by_pca, by_tsne):
        flat = project(points)
        assert flat.shape == (150, 2)
        centres = np.stack([flat[kind == k].mean(0) for k in range(3)])
        nearest = np.linalg.norm(flat[:, None] - centres, axis=2).argmin(1)
        assert (nearest == kind).mean() > 0.98
    assert np.array_equal(by_pca(points[:, :1])[:, 0], points[:, 0])


def test_components_are_fitted_to_the_training_images():
    train, _ = clouds(300, 0)
    projected = principal([train, train * 2], 1)
    assert projected[1].shape == (300, 1)
    first = np.linalg.svd(train - train.mean(0))[2][0]
    assert abs(spearmanr(projected[0][:, 0], train @ first).statistic) == pytest.approx(1)


def test_a_runs_codes_are_measured_and_drawn(run, command):
    trained = run("hidden=[30]", "latent=4")
    told = command("codes", f"run={trained.path}", "n=200")
    assert told.returncode == 0, told.stderr
    assert "4 principal components" in told.stdout
    found = json.loads((trained.path / "evaluated" / "codes-pca-n200.json").read_text())
    assert 0 < found["code"]["linear probe"] <= 1
    assert (trained.path / "evaluated" / "codes-pca-n200.png").stat().st_size > 5000
    refused = command("codes", f"run={trained.path}", "projection=tsn")
    assert refused.returncode == 2
    assert "did you mean 'tsne'?" in refused.stderr
