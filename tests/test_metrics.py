"""Metrics against scikit-image and closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import (
    mean_squared_error,
    peak_signal_noise_ratio,
    structural_similarity,
)

from ae_lab.training import metrics


def pair(shape, seed: int, sigma: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    x = torch.rand(shape, generator=chance)
    return (x + sigma * torch.randn(shape, generator=chance)).clamp(0, 1), x


@pytest.mark.parametrize("shape", [(4, 1, 28, 28), (4, 3, 64, 64), (2, 3, 11, 30)])
def test_metrics_are_those_of_scikit_image(shape):
    image, reference = pair(shape, seed=0)
    for i in range(shape[0]):
        a, b = image[i].numpy().astype(np.float64), reference[i].numpy().astype(np.float64)
        theirs = {
            "mse": mean_squared_error(b, a),
            "psnr": peak_signal_noise_ratio(b, a, data_range=1.0),
            "ssim": structural_similarity(
                b,
                a,
                channel_axis=0,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            ),
        }
        for name, values in metrics.image_metrics(image, reference).items():
            assert float(values[i]) == pytest.approx(theirs[name], rel=1e-4), name


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), sigma=st.floats(0, 2), batch=st.integers(1, 5))
def test_bounds_symmetry_and_batching(seed, sigma, batch):
    image, reference = pair((batch, 1, 16, 16), seed, sigma)
    measured = metrics.image_metrics(image, reference)
    for name, values in measured.items():
        assert values.shape == (batch,)
        assert torch.isfinite(values).all()
        swapped = metrics.image_metrics(reference, image)[name]
        torch.testing.assert_close(values, swapped, rtol=1e-4, atol=1e-5)
        alone = metrics.image_metrics(image[-1:], reference[-1:])[name]
        torch.testing.assert_close(values[-1:], alone, rtol=1e-4, atol=1e-5)
    assert (measured["mse"] >= 0).all()
    assert (measured["ssim"].abs() <= 1 + 1e-5).all()


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
