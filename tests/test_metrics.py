"""Metrics against scikit-image, SciPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, uniform_filter
from skimage.metrics import (
    mean_squared_error,
    peak_signal_noise_ratio,
    structural_similarity,
)

from ae_lab.core import configuration
from ae_lab.training import MSE, PSNR, SSIM, metrics


def pair(shape, seed: int, sigma: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=rng)
    return (x + sigma * torch.randn(shape, generator=rng)).clamp(0, 1), x


def by_scikit_image(image: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """The metrics of one image (C, H, W)."""
    a, b = image.numpy().astype(np.float64), reference.numpy().astype(np.float64)
    similarity = structural_similarity(
        b,
        a,
        channel_axis=0,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return {
        "mse": mean_squared_error(b, a),
        "psnr": peak_signal_noise_ratio(b, a, data_range=1.0),
        "ssim": similarity,
    }


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 64, 64), (2, 3, 11, 30)])
def test_metrics_are_those_of_scikit_image(shape):
    image, reference = pair(shape, seed=0)
    for name, values in metrics.image_metrics(image, reference).items():
        for i in range(shape[0]):
            expected = by_scikit_image(image[i], reference[i])[name]
            assert float(values[i]) == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("kind", [MSE, PSNR, SSIM])
def test_a_metric_is_the_mean_over_the_images_of_all_batches(kind):
    metric, name = kind(), kind.__name__.lower()
    image, reference = pair((7, 3, 20, 20), seed=0)
    image[0] = reference[0] + 0.01  # an outlier: a mean of means of batches is another number
    expected = [by_scikit_image(a, b)[name] for a, b in zip(image, reference, strict=True)]
    for a, b in zip(image.split([1, 4, 2]), reference.split([1, 4, 2]), strict=True):
        metric.update(a, b)
    assert float(metric.compute()) == pytest.approx(np.mean(expected), rel=1e-4)
    assert metric.higher_is_better is (name != "mse")
    metric.reset()
    metric.update(image[:2], reference[:2])
    assert float(metric.compute()) == pytest.approx(np.mean(expected[:2]), rel=1e-4)


@pytest.mark.parametrize("kind", [MSE, PSNR, SSIM])
def test_images_are_summed_over_ranks(kind):
    image, reference = pair((5, 1, 16, 16), seed=0)
    first, second, whole = kind(), kind(), kind()
    first.update(image[:1], reference[:1])
    second.update(image[1:], reference[1:])
    whole.update(image, reference)
    first.merge_state(second)  # as torchmetrics does with the states of several ranks
    torch.testing.assert_close(first.compute(), whole.compute())


def contrast_and_similarity(image: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """The contrast term of SSIM, and SSIM itself, of one channel (H, W).

    As torchmetrics has it, the former is the mean over places where the window fits, the latter
    over all places of an image that is mirrored at its edges.
    """

    def blur(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, 1.5, truncate=3.5, mode="mirror")

    mean_x, mean_y = blur(image), blur(reference)
    variances = blur(image**2) - mean_x**2 + blur(reference**2) - mean_y**2
    covariance = blur(image * reference) - mean_x * mean_y
    contrast = (2 * covariance + 0.03**2) / (variances + 0.03**2)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    return float(contrast[5:-5, 5:-5].mean()), float((contrast * luminance).mean())


def test_example_metrics_are_those_computed_by_hand():
    """`conf/metrics/` has a line for each of them; torchmetrics computes them."""
    config = configuration.compose(["data=mnist5k", "metrics=[default,l1,ms_ssim]"])
    examples = instantiate(config.metrics)
    image, reference = pair((6, 1, 28, 28), seed=0, sigma=0.3)
    for a, b in zip(image.split([4, 2]), reference.split([4, 2]), strict=True):
        for name in ("l1", "ms_ssim"):
            examples[name].update(a, b)
    absolute = np.abs(image.numpy() - reference.numpy()).mean()
    assert float(examples["l1"].compute()) == pytest.approx(absolute, rel=1e-5)
    similarities = []
    for a, b in zip(image[:, 0].double().numpy(), reference[:, 0].double().numpy(), strict=True):
        fine, _ = contrast_and_similarity(a, b)
        halved = [uniform_filter(z, 2)[1::2, 1::2] for z in (a, b)]
        _, coarse = contrast_and_similarity(*halved)
        similarities.append(fine**0.1356 * coarse**0.8644)
    computed = float(examples["ms_ssim"].compute())
    assert computed == pytest.approx(np.mean(similarities), rel=1e-4)
    assert [examples[name].higher_is_better for name in ("l1", "ms_ssim")] == [False, True]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), sigma=st.floats(0, 2), batch=st.integers(1, 5))
def test_bounds_symmetry_and_batching(seed, sigma, batch):
    image, reference = pair((batch, 1, 16, 16), seed, sigma)
    computed = metrics.image_metrics(image, reference)
    for name, values in computed.items():
        assert values.shape == (batch,)
        assert torch.isfinite(values).all()
        swapped = metrics.image_metrics(reference, image)[name]
        torch.testing.assert_close(values, swapped, rtol=1e-4, atol=1e-5)
        alone = metrics.image_metrics(image[-1:], reference[-1:])[name]
        torch.testing.assert_close(values[-1:], alone, rtol=1e-4, atol=1e-5)
    assert (computed["mse"] >= 0).all()
    assert (computed["ssim"].abs() <= 1 + 1e-5).all()


def test_identical_images_have_the_stated_cap_not_infinity():
    x = torch.rand(2, 1, 28, 28)
    assert metrics.psnr(x, x).tolist() == [metrics.PSNR_CAP] * 2
    assert metrics.ssim(x, x).tolist() == pytest.approx([1.0, 1.0])


def test_psnr_of_a_set_is_the_mean_over_images():
    clean = torch.zeros(2, 1, 16, 16)
    image = clean.clone()
    image[0] += 0.1
    image[1] += 0.01
    assert metrics.psnr(image, clean).mean() == pytest.approx(30.0, abs=1e-3)
    pooled = -10 * math.log10(float(metrics.mse(image, clean).mean()))
    assert pooled == pytest.approx(22.97, abs=0.01)  # what it must not be
