"""The scores of generated images against closed forms and by hand, and the classifier they need."""

import json

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from scipy.linalg import sqrtm

from ae_lab.core import configuration
from ae_lab.core.errors import UserError
from ae_lab.data.images import ImageSet, Split
from ae_lab.evaluation import classifier
from ae_lab.evaluation.classifier import load_or_train_classifier
from ae_lab.evaluation.fidelity import frechet_distance, inception_distance, manifold_scores
from ae_lab.inference import NotApplicable


def cloud(n: int, seed: int, dims: int = 4) -> torch.Tensor:
    return torch.randn(n, dims, generator=torch.Generator().manual_seed(seed))


def test_the_frechet_distance_is_the_formula_with_a_matrix_root():
    one, two = cloud(400, 0), cloud(300, 1) @ torch.diag(torch.tensor([1.0, 2, 0.5, 1])) + 1
    a, b = one.double().numpy(), two.double().numpy()
    s1, s2 = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(one, two) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one + 3) == pytest.approx(4 * 9, rel=1e-6)


def test_spheres_are_counted_as_by_hand():
    real, generated, k = cloud(60, 0, 2), cloud(50, 1, 2) * 0.7, 3

    def radii(points):
        return [sorted(float((p - q).norm()) for q in points)[k] for p in points]

    inside = [
        [float((r - g).norm()) < radius for g in generated]
        for r, radius in zip(real, radii(real), strict=True)
    ]
    inside = np.array(inside)
    found = manifold_scores(real, generated, k)
    assert found["precision"] == pytest.approx(inside.any(0).mean())
    assert found["density"] == pytest.approx(inside.sum(0).mean() / k)
    assert found["coverage"] == pytest.approx(inside.any(1).mean())
    turned = manifold_scores(generated, real, k)
    assert found["recall"] == pytest.approx(turned["precision"])


def test_a_generator_that_knows_one_of_two_kinds_is_precise_and_covers_half():
    kinds = torch.tensor([[20.0] + [0] * 3, [-20.0] + [0] * 3])
    real = cloud(400, 0) + kinds[torch.arange(400) % 2]
    found = manifold_scores(real, cloud(400, 1) + kinds[0])
    assert found["precision"] > 0.9
    assert found["recall"] < 0.55
    assert found["coverage"] < 0.55
    assert manifold_scores(real, real + 100) == {
        "precision": 0,
        "recall": 0,
        "density": 0,
        "coverage": 0,
    }


def test_the_inception_distance_takes_weights_at_hand(tmp_path, monkeypatch):
    inception = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    net, file = inception.FeatureExtractorInceptionV3, tmp_path / "weights.pth"
    with monkeypatch.context() as patched:  # the network as it starts out, for want of the real one
        patched.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(net, "load_state_dict", lambda *_: None)
        torch.save(net("i", ["2048"]).state_dict(), file)
    real, other = torch.rand(6, 1, 28, 28), torch.rand(6, 1, 28, 28) * 0.2
    assert inception_distance(real, real, file) == pytest.approx(0, abs=1e-3)
    assert inception_distance(real, other, file) > inception_distance(real, real.flip(0), file)
    file.write_bytes(b"no weights")
    for unusable in (file, tmp_path / "nowhere.pth"):
        with pytest.raises(UserError, match="does not hold Inception's weights"):
            inception_distance(real, other, unusable)


@pytest.fixture
def digits() -> ImageSet:
    """A thousand embedded digits, to learn from and to be tested on."""
    return instantiate(configuration.compose(["data=mnist5k"]).data.source).limit(1000)


def test_the_classifier_knows_digits_is_trained_once_and_again_if_damaged(
    digits, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(classifier.SETTINGS, "epochs", 5)
    first = load_or_train_classifier(digits, tmp_path)
    assert first.accuracy > 0.85
    assert "once" in capsys.readouterr().out
    again = load_or_train_classifier(digits, tmp_path)
    assert not capsys.readouterr().out
    images = digits.test.images[:20] / 255
    assert torch.equal(first.classify(images)[0], again.classify(images)[0])
    features, probability = again.classify(images)
    assert features.shape == (20, classifier.SETTINGS["features"])
    torch.testing.assert_close(probability.sum(1), torch.ones(20))
    [stored] = tmp_path.glob("*.pt")
    stored.write_bytes(stored.read_bytes()[:-100])
    assert torch.equal(load_or_train_classifier(digits, tmp_path).classify(images)[0], features)


def test_images_without_a_single_label_have_no_classifier(digits, tmp_path):
    two = digits.train.labels.clone()
    two[0] = 1
    several = ImageSet("x", "x", Split(digits.train.images, two), digits.val, digits.test)
    with pytest.raises(NotApplicable, match="exactly one label per image"):
        load_or_train_classifier(several, tmp_path)


def test_samples_stand_beside_real_images_and_those_of_several_samplers(run, command, tmp_path):
    trained = run("conditional=true", "hidden=[30]", "latent=4")
    cache = {"AE_LAB_CACHE": str(tmp_path / "cache")}
    words = [f"run={trained.path}", "evaluator=samples", "evaluator.samples.n=60"]
    done = command("evaluate", "-m", *words, "sampler=normal,gmm", "seed=0", **cache)
    assert done.returncode == 0, done.stderr
    assert "classifier test accuracy" in done.stdout
    assert not done.stderr
    rows = {}
    for file in (trained.path / "evaluations").glob("samples-*.json"):
        rows |= json.loads(file.read_text())["rows"]
    assert set(rows) == {"real images", "generated, normal", "generated, mixture"}
    last_table = done.stdout.rpartition("random images")[2]
    assert all(f" {name} " in last_table for name in rows)
    for better in ("frechet", "label accuracy"):
        real, normal = rows["real images"][better], rows["generated, normal"][better]
        assert real < normal if better == "frechet" else real > normal
    few = command("evaluate", *words, "evaluator.samples.n=3", **cache)
    assert few.returncode == 2
    assert "too few" in few.stderr
    none = command("evaluate", *words, "sampler=prior", **cache)
    assert none.returncode == 2
    assert none.stderr.startswith("error: ")
    assert "has no prior: take sampler=normal" in none.stderr
