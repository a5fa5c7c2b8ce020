"""Noise: moments against scikit-image, exact repeatability, adding one is a class and a file."""

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.util import random_noise

from ae_lab.core.errors import UserError
from ae_lab.data.corruptions import (
    Corruption,
    Downsampling,
    GaussianBlur,
    GaussianNoise,
    JPEGCompression,
    Mask,
    MixedNoise,
    PoissonNoise,
    SaltPepperNoise,
    SpeckleNoise,
)
from ae_lab.data.images import Split
from ae_lab.data.loaders import EvalLoader

# A ramp over the pixel range, so that noise that depends on the pixel's value is tested too.
RAMP = torch.linspace(0, 1, 256).repeat(64, 256, 1)[:, None]
PAIRS = {
    "gaussian": (GaussianNoise(0.2), {"mode": "gaussian", "var": 0.04}),
    "gaussian, not clipped": (
        GaussianNoise(0.2, clip=False),
        {"mode": "gaussian", "var": 0.04, "clip": False},
    ),
    "salt and pepper": (
        SaltPepperNoise(0.3, ratio=0.7),
        {"mode": "s&p", "amount": 0.3, "salt_vs_pepper": 0.7},
    ),
    "speckle": (SpeckleNoise(0.4), {"mode": "speckle", "var": 0.16}),
    "speckle, not clipped": (
        SpeckleNoise(0.4, clip=False),
        {"mode": "speckle", "var": 0.16, "clip": False},
    ),
}
NOISES = st.one_of(
    st.builds(GaussianNoise, st.floats(0, 3)),
    st.builds(SaltPepperNoise, st.floats(0, 1), st.floats(0, 1), st.booleans()),
    st.builds(SpeckleNoise, st.floats(0, 3)),
    st.builds(PoissonNoise, st.floats(0.1, 100)),
    st.builds(Mask, st.sampled_from(["box", "half", "pixels", "strokes"]), st.floats(0, 1)),
    st.builds(Downsampling, st.sampled_from([2, 4, [2, 3]]), st.sampled_from(["bicubic", "area"])),
    st.builds(GaussianBlur, st.floats(0, 3), st.floats(0, 1)),
    st.builds(JPEGCompression, st.integers(1, 100)),
    st.just(Corruption()),
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corrupt(noise: Corruption, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    corrupted, _ = noise(x, seeded(seed))
    return corrupted


@pytest.mark.parametrize("name", PAIRS)
def test_moments_are_those_of_scikit_image(name):
    """Mean and standard deviation of corrupted - clean, at each of the ramp's 256 gray levels."""
    noise, arguments = PAIRS[name]
    ours = (corrupt(noise, RAMP) - RAMP).numpy()
    theirs = random_noise(RAMP.numpy(), rng=np.random.default_rng(0), **arguments) - RAMP.numpy()
    axes = (0, 1, 2)  # 64 images × 256 rows: 16,384 draws a level
    np.testing.assert_allclose(ours.mean(axes), theirs.mean(axes), atol=0.016)
    np.testing.assert_allclose(ours.std(axes), theirs.std(axes), atol=0.012)


@settings(deadline=None, max_examples=50)
@given(noise=NOISES, seed=st.integers(0, 2**40), channels=st.sampled_from([1, 3]))
def test_any_noise_is_repeatable_keeps_its_shape_and_the_pixel_range(noise, seed, channels):
    x = torch.rand(3, channels, 13, 17, generator=seeded(1))
    before = x.clone()
    first, side = noise(x, seeded(seed))
    again, same = noise(x, seeded(seed))
    assert torch.equal(first, again)
    assert torch.equal(x, before)
    assert first.shape == x.shape
    assert noise.tells == (side is not None)
    if noise.tells:
        assert torch.equal(side, same)
        assert side.shape in [(3, 1, 1, 1), (3, 1, 13, 17)]
        assert side.min() >= 0
    assert first.min() >= 0
    assert first.max() <= 1


def test_salt_and_pepper_strikes_whole_pixels_unless_per_channel():
    x = torch.full((4, 3, 50, 50), 0.5)
    struck = corrupt(SaltPepperNoise(0.5), x) != x
    assert torch.equal(struck.all(1), struck.any(1))
    struck = corrupt(SaltPepperNoise(0.5, per_channel=True), x) != x
    assert not torch.equal(struck.all(1), struck.any(1))


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "much", None])
def test_impossible_levels_are_refused(bad):
    for kind in (GaussianNoise, SpeckleNoise, SaltPepperNoise):
        with pytest.raises(UserError, match=r"noise\.(sigma|amount) must be a finite number >= 0"):
            kind(bad)


def test_noise_of_an_evaluated_image_belongs_to_the_image():
    """The same whatever the batch size, the number of images, the number of ranks."""
    split = Split(
        torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=seeded(0)),
        torch.zeros(20, 10, dtype=torch.uint8),
    )
    noise = GaussianNoise(0.3)

    def corrupted(part: Split, size: int, rank: int = 0, world: int = 1):
        """The corrupted images, {index: (C, H, W)}."""
        loader = EvalLoader(part, noise, "test", size, rank, world)
        return {int(i): x for b in loader for i, x in zip(b.index, b.corrupted, strict=True)}

    whole = corrupted(split, 20)
    assert len(whole) == 20
    shards = corrupted(split, 3, 0, 2) | corrupted(split, 7, 1, 2)
    assert shards.keys() == whole.keys()
    for other in (shards, corrupted(split.first(5), 2)):
        assert all(torch.equal(x, whole[i]) for i, x in other.items())
    different = EvalLoader(split, noise, "val", 20, 0, 1)
    assert not torch.equal(next(iter(different)).corrupted[0], whole[0])


def test_a_new_noise_is_one_class_and_one_file(tmp_path, monkeypatch):
    """Written here as a person would, outside the package, found by Hydra's search path."""
    (tmp_path / "my_noise.py").write_text(
        "from ae_lab.data.corruptions import Corruption\n\n\n"
        "class Dim(Corruption):\n"
        "    def __init__(self, factor, clip=True):\n"
        "        super().__init__(clip)\n"
        "        self.factor = factor\n\n"
        "    def corrupt(self, x, generator):\n"
        "        return x * self.factor, None\n"
    )
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise" / "dim.yaml").write_text("_target_: my_noise.Dim\nfactor: 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    from ae_lab.core import configuration

    config = configuration.compose(["noise=dim", f"hydra.searchpath=[file://{tmp_path}]"])
    corrupted = corrupt(instantiate(config.noise), torch.ones(1, 1, 2, 2))
    assert torch.equal(corrupted, torch.full((1, 1, 2, 2), 0.5))


def test_a_noise_that_returns_images_alone_is_told_what_to_return():
    class Dim(Corruption):
        def corrupt(self, x, generator):
            return x / 2

    with pytest.raises(UserError, match=r"Dim\.corrupt must return images and what is known"):
        Dim()(torch.ones(1, 1, 2, 2), seeded(0))


def test_a_level_may_be_drawn_for_each_image():
    x = torch.full((400, 1, 16, 16), 0.5)
    corrupted, side = GaussianNoise([0.05, 0.15], clip=False)(x, seeded(0))
    deviations = (corrupted - x).flatten(1).std(1)
    assert deviations.mean() == pytest.approx(0.1, abs=0.005)
    assert deviations.std() == pytest.approx(0.1 / 12**0.5, abs=0.004)  # of a uniform level
    torch.testing.assert_close(side.flatten(), deviations, rtol=0.2, atol=0)
    for impossible in ([0.2, 0.1], [0.1, 0.2, 0.3], [-0.1, 0.2]):
        with pytest.raises(UserError, match=r"noise\.sigma"):
            GaussianNoise(impossible)


def test_mixed_noise_draws_each_kind_as_often():
    kinds = {"a": GaussianNoise(0.1), "b": SaltPepperNoise(0.5), "c": Corruption()}
    x = torch.full((3000, 1, 8, 8), 0.5)
    corrupted = corrupt(MixedNoise(kinds), x)
    untouched = (corrupted == x).flatten(1).all(1)
    struck = ((corrupted == 0) | (corrupted == 1)).flatten(1).any(1)
    assert untouched.float().mean() == pytest.approx(1 / 3, abs=0.03)
    assert struck.float().mean() == pytest.approx(1 / 3, abs=0.03)
    with pytest.raises(UserError, match="no kinds"):
        MixedNoise({})
