"""What codes are worth: the scores where the answer is known, and the command."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from ae_lab.evaluation.latents import principal_components, project_pca, project_tsne, score


def clouds(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds far apart in eight dimensions, and which one a point is of."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    return rng.normal(size=(n, 8)) + 30 * np.eye(3, 8)[kind], kind


def test_codes_that_tell_all_and_codes_that_tell_nothing():
    (train, known), (test, asked) = clouds(300, 0), clouds(150, 1)
    itself = score(train, test, known, asked, test)
    assert itself == {"nearest neighbours": 1, "linear probe": 1, "trustworthiness": 1}
    rng = np.random.default_rng(2)
    noise = [rng.normal(size=(n, 2)) for n in (300, 150)]
    nothing = score(*noise, known, asked, test)
    assert nothing["nearest neighbours"] < 0.5
    assert nothing["linear probe"] < 0.5
    assert nothing["trustworthiness"] < 0.7


def test_projections_keep_clouds_apart():
    points, kind = clouds(150, 0)
    for project in (project_pca, project_tsne):
        flat = project(points)
        assert flat.shape == (150, 2)
        centres = np.stack([flat[kind == k].mean(0) for k in range(3)])
        nearest = np.linalg.norm(flat[:, None] - centres, axis=2).argmin(1)
        assert (nearest == kind).mean() > 0.98
    assert np.array_equal(project_pca(points[:, :1])[:, 0], points[:, 0])


def test_components_are_fitted_to_the_training_images():
    train, _ = clouds(300, 0)
    projected = principal_components([train, train * 2], 1)
    assert projected[1].shape == (300, 1)
    first = np.linalg.svd(train - train.mean(0))[2][0]
    assert abs(spearmanr(projected[0][:, 0], train @ first).statistic) == pytest.approx(1)


def test_a_runs_codes_are_scored_and_drawn(run, command):
    trained = run("hidden=[30]", "latent=4")
    words = [f"run={trained.path}", "evaluator=latents"]
    result = command("evaluate", *words, "evaluator.latents.n=200")
    assert result.returncode == 0, result.stderr
    assert "4 principal components" in result.stdout
    [file] = (trained.path / "evaluations").glob("latents-*.json")
    rows = json.loads(file.read_text())["rows"]
    assert 0 < rows["code"]["linear probe"] <= 1
    assert file.with_suffix(".pca.png").stat().st_size > 5000
    refused = command("evaluate", *words, "evaluator.latents.projection=tsn")
    assert refused.returncode == 2
    assert "did you mean 'tsne'?" in refused.stderr
