"""Masks, scaling, blur, JPEG and shot noise, against other libraries and closed forms; what a
network is told of them."""

import io

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.data import astronaut
from skimage.restoration import inpaint_biharmonic

from ae_lab.core.errors import UserError
from ae_lab.data import Batch
from ae_lab.data.corruptions import (
    Corruption,
    Downsampling,
    GaussianBlur,
    GaussianNoise,
    JPEGCompression,
    Mask,
    MixedNoise,
    PoissonNoise,
)
from ae_lab.data.corruptions.filling import fill_smoothly
from ae_lab.data.images import Split
from ae_lab.data.loaders import EvalLoader
from tests.building import build

PHOTO = torch.from_numpy(astronaut()[:96, 150:246].copy()).permute(2, 0, 1)[None] / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_pillow(x: torch.Tensor, size: tuple[int, int], resample) -> torch.Tensor:
    """Each channel (H, W) resized by Pillow, in floating point."""
    planes = [Image.fromarray(plane.numpy(), "F").resize(size, resample) for plane in x[0]]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))[None]


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("method", ["bicubic", "area"])
@pytest.mark.parametrize("sides", [(96, 96), (37, 51)])
def test_a_smaller_image_and_back_is_what_pillow_makes(factor, method, sides):
    height, width = sides
    x = PHOTO[..., :height, :width]
    corrupted, side = Downsampling(factor, method, clip=False)(x, seeded())
    size = (-(-width // factor), -(-height // factor))
    if method == "area" and sides == (37, 51):
        pytest.skip("Pillow's boxes share pixels where torch's do not")
    kind = Image.Resampling.BOX if method == "area" else Image.Resampling.BICUBIC
    expected = with_pillow(with_pillow(x, size, kind), (width, height), Image.Resampling.BICUBIC)
    torch.testing.assert_close(corrupted, expected, atol=2e-3, rtol=0)
    assert side.flatten().tolist() == [1 - 1 / factor]


def test_each_of_several_factors_is_drawn():
    x = PHOTO.expand(60, -1, -1, -1)
    corrupted, side = Downsampling([2, 4])(x, seeded())
    for factor in (2, 4):
        chosen = side.flatten() == 1 - 1 / factor
        assert 15 < chosen.sum() < 45
        assert torch.equal(corrupted[chosen][:1], Downsampling(factor)(PHOTO, seeded())[0])


@pytest.mark.parametrize("radius", [0.0, 0.7, 2.0])
def test_blur_is_scipys_gaussian(radius):
    corrupted, _ = GaussianBlur(radius, sigma=0, clip=False)(PHOTO, seeded())
    expected = gaussian_filter(PHOTO.double().numpy(), (0, 0, radius, radius), mode="nearest")
    np.testing.assert_allclose(corrupted, expected, atol=1e-5)


def test_each_image_has_a_blur_of_its_own_and_then_noise():
    x = PHOTO.expand(8, -1, -1, -1)
    corrupted, side = GaussianBlur([0.2, 3], sigma=0)(x, seeded())
    detail = corrupted.diff(dim=3).square().mean((1, 2, 3))
    assert (detail[side.flatten().argsort()].diff() < 0).all()
    noisy, _ = GaussianBlur(0, sigma=0.1, clip=False)(PHOTO, seeded())
    assert (noisy - PHOTO).std() == pytest.approx(0.1, rel=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_what_a_file_of_that_quality_shows(channels):
    x = PHOTO[:, :channels]
    corrupted, side = JPEGCompression(30)(x, seeded())
    pixels = (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(file, "JPEG", quality=30)
    shown = np.array(Image.open(file)).reshape(pixels.shape)
    assert torch.equal(corrupted[0], torch.from_numpy(shown).permute(2, 0, 1) / 255)
    assert float(side) == pytest.approx(0.7)


def test_lower_quality_loses_more():
    x = PHOTO.expand(20, -1, -1, -1)
    corrupted, side = JPEGCompression([5, 90])(x, seeded())
    error = (corrupted - x).square().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack([side.flatten(), error.log()]))[0, 1] > 0.95


def test_shot_noise_has_the_mean_and_the_variance_of_photons():
    ramp = torch.linspace(0, 1, 64).repeat(400, 1, 64, 1)
    corrupted, side = PoissonNoise(30, clip=False)(ramp, seeded())
    noise = (corrupted - ramp).transpose(0, 3).flatten(1)  # a row a gray level
    np.testing.assert_allclose(noise.mean(1), np.zeros(64), atol=0.005)
    np.testing.assert_allclose(noise.var(1), torch.linspace(0, 1, 64) / 30, atol=0.001)
    torch.testing.assert_close(side.flatten(), torch.full((400,), 30**-0.5))
    assert torch.equal((corrupted * 30).round() / 30, corrupted)  # photons are whole


@pytest.mark.parametrize("kind", ["box", "half", "pixels", "strokes"])
@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_mask_takes_its_share_and_leaves_the_rest(kind, share):
    x = torch.rand(50, 3, 32, 40, generator=seeded(1))
    corrupted, side = Mask(kind, share, fill=0.5)(x, seeded())
    assert side.shape == (50, 1, 32, 40)
    assert set(side.unique().tolist()) <= {0.0, 1.0}
    assert side.mean() == pytest.approx(share, abs=0.01)
    if kind != "pixels":
        assert side.mean((1, 2, 3)).tolist() == pytest.approx([share] * 50, abs=0.02)
    torch.testing.assert_close(corrupted, x * (1 - side) + 0.5 * side)


def test_masks_are_of_their_shapes():
    x = torch.zeros(200, 1, 32, 32)
    box = Mask("box", 0.25)(x, seeded())[1][:, 0]
    assert all(one.any(0).sum() == one.any(1).sum() == 16 for one in box)  # 16×16 of 32×32
    assert box.mean((0, 2)).min() > 0  # it lies anywhere
    assert box.mean((0, 1)).min() > 0
    half = Mask("half", 0.5)(x, seeded())[1][:, 0]
    assert half.flatten(1).unique(dim=0).shape[0] == 4
    strokes, pixels = (Mask(kind, 0.25)(x, seeded())[1] for kind in ("strokes", "pixels"))
    assert strokes.diff().abs().mean() < pixels.diff().abs().mean() / 3  # they hang together


def test_shares_are_drawn_for_each_image():
    side = Mask("strokes", [0.1, 0.5])(torch.zeros(300, 1, 20, 20), seeded())[1]
    shares = side.mean((1, 2, 3))
    assert shares.min() < 0.15
    assert shares.max() > 0.45
    assert shares.mean() == pytest.approx(0.3, abs=0.03)


def test_the_side_of_mixed_noise_is_that_of_the_kind_drawn():
    kinds = {"noise": GaussianNoise(0.2), "mask": Mask("box", 0.25), "none": Corruption()}
    x = torch.full((90, 1, 16, 16), 0.5)
    corrupted, side = MixedNoise(kinds)(x, seeded())
    constant = side.flatten(1).min(1).values == side.flatten(1).max(1).values
    levels = side[constant].flatten(1)[:, 0]
    assert sorted(set(levels.tolist())) == pytest.approx([0, 0.2])
    untouched = (corrupted == x).flatten(1).all(1)
    assert torch.equal(untouched[constant], levels == 0)
    assert side[~constant].mean() == pytest.approx(0.25)


def test_the_side_of_an_evaluated_image_belongs_to_the_image():
    images = torch.randint(0, 256, (9, 1, 12, 12), dtype=torch.uint8, generator=seeded())
    split = Split(images, torch.zeros(9, 1, dtype=torch.uint8))
    noise = Mask("strokes", [0.1, 0.9])
    [whole] = EvalLoader(split, noise, "test", 9)
    parts = list(EvalLoader(split.first(5), noise, "test", 2))
    assert torch.equal(torch.cat([part.side for part in parts]), whole.side[:5])
    assert torch.equal(whole.part(slice(2, 4)).side, whole.side[2:4])
    assert next(iter(EvalLoader(split, Corruption(), "test", 9))).side is None


@pytest.mark.parametrize("body", ["mlp", "cnn_skip", "unet"])
def test_a_network_that_is_told_depends_on_the_side(body):
    model = build(
        "model=autoencoder",
        f"body={body}",
        "bottleneck=linear" if body == "mlp" else "bottleneck=identity",
        "model.side=true",
        "noise=mask",
        "latent=8",
    ).eval()
    if body == "unet":
        torch.nn.init.normal_(model.decoder.to_pixels.weight)
    x, label = torch.rand(2, 1, 28, 28, generator=seeded()), torch.zeros(2, 10)

    def reconstruct(side):
        return model(Batch(x, x, label, torch.arange(2), side)).reconstruction

    clean = reconstruct(None)
    assert torch.equal(clean, reconstruct(torch.zeros(2, 1, 28, 28)))
    assert not torch.equal(clean, reconstruct(torch.full((2, 1, 1, 1), 0.5)))


@pytest.mark.parametrize("body", ["mlp", "unet"])
def test_a_composite_changes_what_is_missing_and_nothing_else(body):
    bottleneck = "linear" if body == "mlp" else "identity"
    parts = ["model=autoencoder", f"body={body}", f"bottleneck={bottleneck}", "output=composite"]
    model = build(*parts, "model.side=true", "noise=mask", "latent=8").eval()
    if body == "unet":
        torch.nn.init.normal_(model.decoder.to_pixels.weight)
    x, label = torch.rand(2, 1, 28, 28, generator=seeded()), torch.zeros(2, 10)
    side = (torch.rand(2, 1, 28, 28, generator=seeded(1)) < 0.5).float()
    missing = side > 0
    output = model(Batch(x, x, label, torch.arange(2), side))
    assert torch.equal(output.reconstruction[~missing], x[~missing])
    assert torch.equal(output.reconstruction[missing], (x + output.raw)[missing])
    assert (output.reconstruction[missing] != x[missing]).all()
    assert torch.equal(model(Batch(x, x, label, torch.arange(2), None)).reconstruction, x)
    assert not model.decodes_code_alone
    with pytest.raises(Exception, match=r"set model\.side=true"):
        build(*parts)


def test_a_run_is_told_and_one_of_a_corruption_that_tells_nothing_is_refused(run):
    told = run("model.side=true", "noise=mask", "noise.kind=strokes", "hidden=[8]", "data.limit=64")
    assert told.done
    with pytest.raises(UserError, match="Corruption tells nothing"):
        run("model.side=true", "hidden=[8]", "data.limit=64")


@pytest.mark.parametrize(
    ("noise", "hint"),
    [
        (["noise=mask", "noise.kind=blob"], r"noise.kind=blob is not known"),
        (["noise=downsample", "noise.factor=1"], r"noise.factor must be an integer >= 2"),
        (["noise=downsample", "noise.method=cubic"], r"did you mean 'bicubic'"),
        (["noise=jpeg", "noise.quality=0"], r"noise.quality must be .* >= 1 and <= 100"),
        (["noise=poisson", "noise.peak=0"], r"noise.peak must be .* >= 0.01"),
    ],
)
def test_impossible_settings_are_refused(noise, hint):
    from ae_lab.core import configuration
    from ae_lab.core.errors import root_cause

    with pytest.raises(Exception, match=hint) as refused:
        instantiate(configuration.compose(noise).noise)
    assert isinstance(root_cause(refused.value), UserError)


def test_missing_pixels_are_interpolated_from_the_others():
    rows, columns = torch.meshgrid(torch.arange(37) / 74, torch.arange(50) / 100, indexing="ij")
    ramp = (rows + columns).expand(2, 3, -1, -1)
    missing = torch.rand(2, 1, 37, 50, generator=seeded()) < 0.5
    missing[:, :, 10:20, 10:20] = True
    filled = fill_smoothly(ramp, missing)
    known = ~missing.expand_as(ramp)
    assert torch.equal(filled[known], ramp[known])
    assert (filled - ramp).abs().mean() < 0.02
    assert torch.equal(fill_smoothly(torch.where(missing, 1.0, ramp), missing), filled)
    gray = fill_smoothly(torch.full_like(ramp, 0.3), missing)
    assert torch.allclose(gray, torch.full_like(ramp, 0.3))
    nothing = torch.ones(2, 1, 37, 50, dtype=torch.bool)
    assert fill_smoothly(ramp, nothing).isfinite().all()


def test_small_gaps_are_filled_as_the_biharmonic_equation_fills_them():
    missing = torch.rand(1, 1, 96, 96, generator=seeded()) < 0.5
    filled = fill_smoothly(PHOTO, missing)
    known = PHOTO.masked_fill(missing, 0)[0].permute(1, 2, 0).double().numpy()
    expected = inpaint_biharmonic(known, missing[0, 0].numpy(), channel_axis=2)
    expected = torch.from_numpy(expected).permute(2, 0, 1)[None].float()
    to_truth = (expected - PHOTO).square().mean()
    assert (filled - expected).square().mean() < 0.05 * to_truth
    assert (filled - PHOTO).square().mean() < 1.02 * to_truth


def test_a_photograph_is_filled_in_bands_as_it_would_be_whole(monkeypatch):
    missing = torch.rand(1, 1, 96, 96, generator=seeded()) < 0.7
    whole = fill_smoothly(PHOTO, missing)
    monkeypatch.setattr("ae_lab.data.corruptions.filling.BAND", 96 * 17)
    torch.testing.assert_close(fill_smoothly(PHOTO, missing), whole, atol=1e-6, rtol=0)
