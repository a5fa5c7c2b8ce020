"""What a run's codes are worth in place of the images: dimensionality reduction as a result.

    python -m ae_lab.evaluation.latents run=outputs/runs/... projection=tsne

Beside them, by the same measures, the pixels themselves and as many principal components.
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from omegaconf import DictConfig
from rich.table import Table

from ae_lab.core.console import print_table
from ae_lab.core.errors import UserError, check_choice, check_int
from ae_lab.core.files import write_json
from ae_lab.data.images import pixels
from ae_lab.inference.loaded_run import load_run, run_from_path
from ae_lab.reporting.plots import STYLE, as_labels, save

NEIGHBOURS = 5
DRAWN = 2000  # codes at most
MEASURES = ("nearest neighbours", "linear probe", "trustworthiness")


def codes(config: DictConfig) -> dict[str, dict[str, float]]:
    """Measure codes of n training and n test images, and draw the test images' in two dimensions.

    Raises:
        UserError: no run named, data without single labels, an unknown picture, or too few images.
    """
    projection = check_choice("projection", config.projection, PROJECTIONS)
    loaded = load_run(run_from_path(config.run))
    n = check_int("n", config.n, minimum=10 * NEIGHBOURS)
    train, test = (loaded.data.split(name).first(n) for name in ("train", "test"))
    if not train.single:
        raise UserError(f"{loaded.data.images.title} has no single label an image to predict")
    labels = [split.labels.argmax(1).numpy() for split in (train, test)]
    flat = [pixels(split.images).flatten(1).numpy() for split in (train, test)]
    coded = [loaded.codes(split).flatten(1).numpy() for split in (train, test)]
    dims = coded[0].shape[1]
    known = {"pixels": flat, "code": coded, f"{dims} principal components": principal(flat, dims)}
    found = {name: measure(*parts, *labels, flat[1]) for name, parts in known.items()}
    show(f"{loaded.run.name}: {len(test)} test images, learnt from {len(train)}", found)
    stem = loaded.run.path / "evaluated" / f"codes-{config.projection}-n{n}"
    write_json(stem.with_suffix(".json"), found)
    points = projection(coded[1][:DRAWN])
    scatter(points, labels[1][:DRAWN], f"Codes of test images, {loaded.data.images.title}", stem)
    return found


def principal(images: list[np.ndarray], dims: int) -> list[np.ndarray]:
    """Training and test images as their first principal components, fitted to the first."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(dims, *images[0].shape), random_state=0).fit(images[0])
    return [fitted.transform(part) for part in images]


def measure(
    train: np.ndarray, test: np.ndarray, known: np.ndarray, asked: np.ndarray, images: np.ndarray
) -> dict[str, float]:
    """How well labels can be read from vectors (N, D), and whether neighbours stay neighbours.

    The first two are accuracies on test images: of the majority of the 5 nearest training vectors,
    and of logistic regression on standardised vectors. Trustworthiness (Venna & Kaski, 2001) is 1
    less a penalty for each of a vector's 5 neighbours whose image is no neighbour in pixels.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    neighbours = KNeighborsClassifier(NEIGHBOURS)
    few = slice(DRAWN)  # it takes memory with the square of their number
    return {
        "nearest neighbours": float(neighbours.fit(train, known).score(test, asked)),
        "linear probe": float(probe.fit(train, known).score(test, asked)),
        "trustworthiness": float(trustworthiness(images[few], test[few], n_neighbors=NEIGHBOURS)),
    }


def show(title: str, found: dict[str, dict[str, float]]) -> None:
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("")
    for heading in MEASURES:
        drawn.add_column(heading, justify="right")
    for name, row in found.items():
        drawn.add_row(name, *(f"{row[measure]:.4f}" for measure in MEASURES))
    print_table(drawn)


def by_pca(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, 2): the first two principal components; what has two or fewer stays."""
    if vectors.shape[1] <= 2:
        return np.pad(vectors, ((0, 0), (0, 2 - vectors.shape[1])))
    return principal([vectors, vectors], 2)[0]


def by_tsne(vectors: np.ndarray) -> np.ndarray:
    """(N, D) → (N, 2). Source: van der Maaten & Hinton, JMLR 9 (2008)."""
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=0).fit_transform(vectors)


PROJECTIONS = {"pca": by_pca, "tsne": by_tsne}


def scatter(points: np.ndarray, labels: np.ndarray, title: str, stem: Path) -> None:
    """Points (N, 2), each drawn as its label, as PNG and SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5, 5))
        axes = figure.subplots()
        as_labels(axes, points, labels)
        axes.set(xticks=[], yticks=[], title=title)
        axes.spines[:].set_visible(False)
        print(*save(figure, stem), sep="\n")
