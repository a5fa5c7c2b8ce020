"""Principal component analysis, the best linear autoencoder: a baseline."""

from functools import cache
from math import prod

import torch

from ae_lab.data import ImageData
from ae_lab.data.images import to_pixels
from ae_lab.evaluation.data_cache import cached_for_data
from ae_lab.tracking.run import Run

MAX_FULL_SIZE = 2000  # values of an image whose every component is computed
MAX_COMPONENTS = 256  # computed of larger images
MAX_IMAGES = 10_000  # that these are fitted on


class PCA:
    """Fitted on clean training images, tested on the corrupted test images."""

    def __init__(self, data: ImageData):
        from sklearn.decomposition import PCA as Decomposition

        train, batch = data.split("train"), data.eval_batch("test")
        self.clean, self.corrupted = batch.clean.flatten(1), batch.corrupted.flatten(1)
        small = batch.clean[0].numel() <= MAX_FULL_SIZE
        images = train.images if small else train.images[:MAX_IMAGES]
        values = to_pixels(images).flatten(1).numpy()
        # All components of a small image, the leading ones of a large one: its covariance matrix
        # would have more entries than memory.
        if small:
            fitted = Decomposition(svd_solver="covariance_eigh")
        else:
            components = min(MAX_COMPONENTS, *values.shape)
            fitted = Decomposition(components, svd_solver="randomized", random_state=0)
        fitted.fit(values)
        self.mean = torch.from_numpy(fitted.mean_).float()
        self.components = torch.from_numpy(fitted.components_).float()

    @cache  # noqa: B019 — one per data set and noise, kept for the life of the process
    def mse(self, latent: int) -> float | None:
        """Test MSE per pixel of the first `latent` components; None past their number."""
        if latent > len(self.components):
            return None
        basis = self.components[:latent]
        restored = self.mean + (self.corrupted - self.mean) @ basis.T @ basis
        return float((restored - self.clean).square().mean())


def pca_mse(run: Run) -> float | None:
    """The test MSE of PCA with as many components as values reach the run's decoder.

    None where these are too many.

    Raises:
        UserError: the data that the run was trained on is gone.
    """
    latent = int(run.metrics.get("num_decoder_inputs", run.settings["latent"]))
    size = prod(run.config.data.shape)
    if latent > (MAX_COMPONENTS if size > MAX_FULL_SIZE else size):
        return None
    return cached_for_data(run, PCA, "pca").mse(latent)
