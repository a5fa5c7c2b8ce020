"""What a run's codes are worth in place of the images: dimensionality reduction as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.data.images import to_pixels
from ae_lab.evaluation.evaluator import Evaluation
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_NEIGHBOURS = 5
MAX_POINTS = 2000  # of trustworthiness, which takes memory with their square, and of the figure


class LatentEvaluator:
    """How well labels can be read from codes, and whether neighbours stay neighbours; the pixels
    and as many principal components beside them.

    Learnt from the codes of `n` training images, tested on those of at most `n` test images. The
    figure shows the codes of test images in two dimensions, by `projection`: pca or tsne.

    Raises:
        UserError: an unknown projection, n is below 50, or test images are too few.
        NotApplicable: images have several labels each, or none.
    """

    def __init__(self, n: int = 5000, projection: str = "pca"):
        self.n = check_int("evaluator.latents.n", n, minimum=10 * NUM_NEIGHBOURS)
        self.projection = projection
        self.project = check_choice("evaluator.latents.projection", projection, PROJECTIONS)

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        images = loaded.data.images
        train, test = (loaded.data.split(name).first(self.n) for name in ("train", "test"))
        if not train.has_single_labels:
            raise NotApplicable(f"{images.title} has no single label per image to predict")
        if len(test) <= 2 * NUM_NEIGHBOURS:
            raise UserError(
                f"{images.title} has {len(test)} test images, and evaluator=latents needs more "
                f"than {2 * NUM_NEIGHBOURS}"
            )
        labels = [split.labels.argmax(1).numpy() for split in (train, test)]
        pixels = [to_pixels(split.images).flatten(1).numpy() for split in (train, test)]
        codes = [loaded.encode_split(split).flatten(1).numpy() for split in (train, test)]
        dims = codes[0].shape[1]
        principal = f"{dims} principal components"
        vectors = {"pixels": pixels, principal: principal_components(pixels, dims), "code": codes}
        rows = {name: score(*parts, *labels, pixels[1]) for name, parts in vectors.items()}
        title = f"{loaded.run.name}: codes of {len(test)} test images of {images.title}, "
        points = self.project(codes[1][:MAX_POINTS])
        figure = draw_codes(points, labels[1][:MAX_POINTS], f"Codes of test images, {images.title}")
        return Evaluation(
            title + f"learnt from {len(train)}", rows, figures={self.projection: figure}
        )


def principal_components(images: list[np.ndarray], dims: int) -> list[np.ndarray]:
    """Training and test images (N, D) as their first principal components, fitted to the first."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(dims, *images[0].shape), random_state=0).fit(images[0])
    return [fitted.transform(part) for part in images]


def score(
    train: np.ndarray,
    test: np.ndarray,
    train_labels: np.ndarray,
    test_labels: np.ndarray,
    test_images: np.ndarray,
) -> dict[str, float]:
    """How well labels can be read from vectors (N, D), and whether neighbours stay neighbours.

    The first two are accuracies on test images: of the majority of the 5 nearest training vectors,
    and of logistic regression on standardised vectors. Trustworthiness (Venna & Kaski, 2001) is 1
    minus a penalty for each of a vector's 5 neighbours whose image is no neighbour in pixels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    neighbours = KNeighborsClassifier(NUM_NEIGHBOURS)
    some = slice(MAX_POINTS)
    return {
        "nearest neighbours": float(neighbours.fit(train, train_labels).score(test, test_labels)),
        "linear probe": float(probe.fit(train, train_labels).score(test, test_labels)),
        "trustworthiness": float(
            trustworthiness(test_images[some], test[some], n_neighbors=NUM_NEIGHBOURS)
        ),
    }


def project_pca(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, 2): the first two principal components; two dimensions or fewer stay as they
    are."""
    if vectors.shape[1] <= 2:
        return np.pad(vectors, ((0, 0), (0, 2 - vectors.shape[1])))
    return principal_components([vectors, vectors], 2)[0]


def project_tsne(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, 2). Source: van der Maaten & Hinton, JMLR 9 (2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=0).fit_transform(vectors)


PROJECTIONS = {"pca": project_pca, "tsne": project_tsne}


def scatter_labels(axes, points: np.ndarray, labels: np.ndarray | None) -> None:
    """Points (N, 2), each drawn as its label, an integer >= 0; as dots where there are none."""
    if labels is None:
        axes.scatter(*points.T, s=14, lw=0, alpha=0.8)
        return
    for label in np.unique(labels):
        mine = points[labels == label]
        axes.scatter(*mine.T, s=14, lw=0, alpha=0.8, color=f"C{label}", marker=f"${label}$")


def draw_codes(points: np.ndarray, labels: np.ndarray, title: str) -> Figure:
    """Points (N, 2), each drawn as its label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    scatter_labels(axes, points, labels)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize="medium")
    axes.spines[:].set_visible(False)
    return figure
