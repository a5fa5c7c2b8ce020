"""Sprites are what their labels say; scores of disentanglement where the answer is known."""

import json

import numpy as np
import pytest
import torch

from ae_lab.core.errors import UserError
from ae_lab.data.images import SPLITS
from ae_lab.data.sources.sprites import SHAPES, SIZE, draw_shape, sprites
from ae_lab.evaluation import disentanglement

FEW = (3, 4, 5, 4)  # levels of scale, rotation, x, y


@pytest.fixture(scope="module")
def drawn():
    """All few images (N, 64, 64) as numbers, and their levels (N, 5)."""
    images = sprites(*FEW)
    parts = [getattr(images, name) for name in SPLITS]
    pixels = torch.cat([part.images for part in parts]).squeeze(1).double()
    return pixels, torch.cat([images.factor_levels(part) for part in parts])


def centres(pixels: torch.Tensor) -> torch.Tensor:
    """The centre of mass of each image, (N, 2): to the right, down."""
    places = torch.arange(SIZE, dtype=torch.float64) + 0.5
    mass = pixels.sum((1, 2))
    return torch.stack(
        [pixels.sum(1) @ places / mass, pixels.sum(2) @ places / mass],
        1,
    )


def test_every_combination_is_drawn_once_and_split():
    images = sprites(*FEW)
    levels = torch.cat([images.factor_levels(getattr(images, name)) for name in SPLITS])
    assert len(levels.unique(dim=0)) == len(levels) == 3 * 3 * 4 * 5 * 4
    assert [len(getattr(images, name)) for name in SPLITS] == [576, 72, 72]
    assert images.factors == {"shape": 3, "scale": 3, "rotation": 4, "x": 5, "y": 4}
    assert images.class_names[:4] == ("square", "ellipse", "heart", "scale 0")
    assert len(images.class_names) == images.train.labels.shape[1] == 19
    assert (images.train.labels.sum(1) == 5).all()
    assert "not the file of dSprites" in images.title
    limited = images.limit(10)
    assert torch.equal(limited.factor_levels(limited.test), images.factor_levels(images.test)[:10])


def test_sprites_are_the_same_each_time():
    first = sprites(*FEW)
    sprites.cache_clear()
    again = sprites(*FEW)
    assert first is not again
    assert first.fingerprint == again.fingerprint
    others = [sprites(*FEW, antialias=False), sprites(3, 4, 4, 5)]
    assert len({first.fingerprint, *(one.fingerprint for one in others)}) == 3


def test_centres_of_mass_follow_x_and_y(drawn):
    pixels, levels = drawn
    places = centres(pixels)
    for axis, factor, count in ((0, 3, 5), (1, 4, 4)):
        step = 32 // (count - 1)
        expected = 32 + step * (levels[:, factor] - (count - 1) / 2)
        assert (places[:, axis] - expected.floor()).abs().max() < 0.05


def test_area_grows_with_scale_alone(drawn):
    pixels, levels = drawn
    areas = pixels.sum((1, 2)) / 255
    for level, scale in enumerate((0.5, 0.75, 1)):
        mine = areas[levels[:, 1] == level]
        assert (mine / (19.6 * scale) ** 2 - 1).abs().max() < 0.02


@pytest.mark.parametrize(("shape", "turn"), [("square", 4), ("ellipse", 2), ("heart", 1)])
def test_shapes_return_after_their_turn_and_not_before(shape, turn):
    start = draw_shape(shape, 1, 0.3).int()
    full = 2 * torch.pi / turn
    assert (draw_shape(shape, 1, 0.3 + full).int() - start).abs().max() <= 255 / 64  # one point
    for part in (0.25, 0.5, 0.75):
        assert (draw_shape(shape, 1, 0.3 + part * full).int() - start).abs().sum() > 255 * 20


def test_a_quarter_turn_is_clockwise():
    for shape in SHAPES:
        turned = draw_shape(shape, 1, torch.pi / 2)
        assert torch.equal(turned, draw_shape(shape, 1, 0).rot90(-1))


def test_shapes_are_whole_at_the_outermost_places():
    images = sprites(1, 8, 33, 1)
    levels, areas = images.factor_levels(images.train), images.train.images.double().sum((1, 2, 3))
    for shape in range(3):
        for angle in range(8):
            mine = areas[(levels[:, 0] == shape) & (levels[:, 2] == angle)]
            assert len(mine) > 10
            assert (mine == mine[0]).all()


def test_binary_sprites_are_black_and_white():
    assert sprites(*FEW, antialias=False).train.images.unique().tolist() == [0, 255]
    assert len(sprites(*FEW).train.images.unique()) > 20


def test_one_level_of_each_is_an_image_for_each_split():
    images = sprites(1, 1, 1, 1)
    assert [len(getattr(images, name)) for name in SPLITS] == [1, 1, 1]
    assert (centres(images.train.images.squeeze(1).double()) - 32).abs().max() < 0.05


@pytest.mark.parametrize("levels", [(0, 1, 1, 1), (1, 1.5, 1, 1), (1, 1, 34, 1), (1, 1, 1, None)])
def test_impossible_levels_are_refused(levels):
    with pytest.raises(UserError, match=r"data\.source\.num_"):
        sprites(*levels)


def known(n: int, seed: int) -> np.ndarray:
    """Levels (n, 4) of independent factors."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(levels, size=n) for levels in (3, 4, 6, 8)], 1)


def standardized(factors: np.ndarray) -> np.ndarray:
    return (factors - factors.mean(0)) / factors.std(0)


def scores(encode, n: int = 3000) -> dict[str, float]:
    """Of the codes that `encode(levels, rng)` makes of n images to learn from and n others."""
    factors = known(n, 0), known(n, 1)
    codes = [
        encode(part, np.random.default_rng(seed))
        for part, seed in zip(factors, (2, 3), strict=True)
    ]
    return disentanglement.score(*codes, *factors)


def test_the_factors_themselves_score_one_and_noise_none():
    itself = scores(lambda f, rng: np.c_[standardized(f), 0.5 * rng.normal(size=(len(f), 2))])
    assert all(0.98 < number <= 1 for number in itself.values()), itself
    noise = scores(lambda f, rng: rng.normal(size=(len(f), 6)))
    chance = {"informativeness": np.mean([1 / 3, 1 / 4, 1 / 6, 1 / 8]), "factor_vae": 0.25}
    for name, number in noise.items():
        assert number == pytest.approx(chance.get(name, 0), abs=0.03), name
    assert all(0 <= number <= 1 for number in noise.values())


def test_rotated_factors_score_in_between():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    rotated = scores(lambda f, rng: standardized(f) @ turn)
    assert rotated["informativeness"] > 0.6  # all is there, but along no axis
    for name in ("mig", "disentanglement", "completeness", "sap"):
        assert 0.01 < rotated[name] < 0.6, name


def test_two_pairs_of_factors_turned_by_45_degrees_are_told_half_of_the_time():
    """Either dimension of a pair varies as little whichever of its factors is fixed."""
    turn = np.kron(np.eye(2), [[1, 1], [1, -1]]) / np.sqrt(2)
    for seed in (0, 1):
        factors = known(5000, seed)
        score = disentanglement.factor_vae_score(standardized(factors) @ turn, factors, seed)
        assert score == pytest.approx(0.5, abs=0.03)


def test_a_factor_in_two_dimensions_is_disentangled_and_not_complete():
    def encode(f, rng):
        return np.c_[standardized(f), standardized(f)[:, 0] + 0.001 * rng.normal(size=len(f))]

    twice = scores(encode)
    assert twice["disentanglement"] > 0.98
    assert twice["completeness"] < 0.95
    assert twice["mig"] == pytest.approx(0.75, abs=0.02)  # one factor of four has no gap
    assert twice["sap"] == pytest.approx(0.75, abs=0.02)
    assert twice["factor_vae"] == 1


def test_order_signs_and_scale_of_dimensions_change_nothing():
    mix = np.random.default_rng(0).normal(size=(4, 5))

    def encode(f, rng):
        return standardized(f) @ mix + 0.2 * rng.normal(size=(len(f), 5))

    plain = scores(encode, 1000)
    for change in (np.eye(5)[[3, 0, 4, 2, 1]], np.diag([1, -1, -1, 1, -1]), 7 * np.eye(5)):
        changed = scores(lambda f, rng, change=change: encode(f, rng) @ change, 1000)
        for name, number in plain.items():
            assert changed[name] == pytest.approx(number, abs=0.01), name


def test_one_dimension_and_constant_ones_have_scores():
    alone = scores(lambda f, rng: standardized(f)[:, :1])
    assert alone["mig"] == pytest.approx(0.25, abs=0.02)
    assert alone["factor_vae"] == pytest.approx(0.25, abs=0.03)  # it always varies least
    constant = scores(lambda f, rng: np.zeros((len(f), 3)))
    assert constant["mig"] == constant["sap"] == constant["disentanglement"] == 0
    assert constant["factor_vae"] == 0.25


def test_mutual_information_of_gaussians_is_the_closed_form():
    """-½ log(1 - ρ²) nats; bins lose a little of it."""
    rng = np.random.default_rng(0)
    first, noise = rng.normal(size=(2, 200_000))
    for correlation in (0.0, 0.5, 0.9):
        second = correlation * first + np.sqrt(1 - correlation**2) * noise
        levels = disentanglement.discretize(second, 60)
        found = disentanglement.mutual_information(first[:, None], levels[:, None], 60)
        expected = -np.log(1 - correlation**2) / 2
        assert found[0, 0] == pytest.approx(expected, abs=0.03)


def test_mutual_information_of_a_channel_is_the_closed_form():
    """A bit that is flipped with probability p tells log 2 - H(p) of itself."""
    bit = np.arange(10_000) % 2
    flipped = np.where(np.arange(10_000) % 10 < 2, 1 - bit, bit)  # p = .2, evenly for each bit
    entropy = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    [[share]] = disentanglement.normalized_information(flipped[:, None].astype(float), bit[:, None])
    assert share == pytest.approx(1 - entropy / np.log(2))


def test_concentration_is_one_minus_entropy():
    rows = np.array([[2.0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    assert disentanglement.concentration(rows) == pytest.approx([1, 0, 0.5, 0])


TINY = ["data=sprites", "data.source.num_scales=2", "data.source.num_rotations=4"]
TINY += ["data.source.num_x=6", "data.source.num_y=5", "data.limit=300", "latent=4"]


@pytest.mark.parametrize("model", [["model=vae", "hidden=[32]"], ["model=mlp", "body=cnn"]])
def test_a_run_on_sprites_is_scored_and_drawn(run, command, model):
    trained = run(*TINY, *model)
    assert trained.metrics["test/mse"] < 0.3
    result = command("evaluate", f"run={trained.path}", "evaluator=disentanglement")
    assert result.returncode == 0, result.stderr
    for words in ("4 principal components", "MIG", "FactorVAE", "on 72 test images of sprites"):
        assert words in result.stdout
    [file] = (trained.path / "evaluations").glob("disentanglement-*.json")
    rows = json.loads(file.read_text())["rows"]
    assert list(rows["code"]) == [
        *("mig", "disentanglement", "completeness", "informativeness", "sap", "factor_vae")
    ]
    assert all(0 <= number <= 1 for row in rows.values() for number in row.values())
    assert file.with_suffix(".mutual_information.png").stat().st_size > 5000


def test_labels_of_factors_condition_a_model(run):
    assert run(*TINY, "model=cvae", "hidden=[32]").done


def test_data_without_factors_are_refused_in_one_line(run, command):
    trained = run("hidden=[8]", "latent=2")
    words = [f"run={trained.path}", "evaluator=disentanglement"]
    refused = command("evaluate", *words)
    assert refused.returncode == 2
    assert "has none: train on data=sprites" in refused.stderr
    assert refused.stderr.strip().count("\n") == 0


def test_maps_and_too_few_images_are_refused_in_one_line(run, command):
    maps = run(*TINY, "model=cnn_unpool", "hidden=[4,4,4]")
    refused = command("evaluate", f"run={maps.path}", "evaluator=disentanglement")
    assert refused.returncode == 2
    assert "are maps: take body=mlp" in refused.stderr
    few = run(*TINY, "data.limit=40", "hidden=[8]")
    refused = command("evaluate", f"run={few.path}", "evaluator=disentanglement")
    assert refused.returncode == 2
    assert "needs 50 training and test images" in refused.stderr
