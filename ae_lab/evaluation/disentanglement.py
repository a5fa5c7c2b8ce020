"""Does each dimension of a code stand for one factor of variation? Scores where factors are known.

Functions take codes, float (N, D), and factors, int (N, F): the level of each factor, all of which
vary. Dimensions of one value score nothing. But for ties no score changes when dimensions are
permuted, scaled all alike, or flipped in sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ae_lab.core.errors import UserError, check_int
from ae_lab.data.images import to_pixels
from ae_lab.evaluation.evaluator import Evaluation
from ae_lab.evaluation.latents import principal_components
from ae_lab.inference.loaded_run import LoadedRun, NotApplicable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_BINS = 20  # of equal width, into which a dimension of the code is cut
NUM_TREES = 20  # of each random forest
LEAF_SIZE = 20  # training images in a leaf, at least: smaller ones spread importance by chance
NUM_VOTES = 5000  # of FactorVAE's score, to learn from and as many to test
VOTE_SIZE = 64  # images of each vote
LEAST_VARIANCE = 0.05  # of the largest one: dimensions below take no part in votes
LEAST_IMAGES = 50


class DisentanglementEvaluator:
    """MIG, DCI, SAP and FactorVAE's score of a run's codes, and of as many principal components.

    Codes are those of clean images, of a stochastic code its mean. What is learnt is learnt from
    the first `n` training images. Everything is measured on the first `n` test images. The figure
    shows how much each dimension tells of each factor.

    Raises:
        UserError: n is below 50, or test images are fewer.
        NotApplicable: the data's factors of variation are not known, or the code is no vector.
    """

    def __init__(self, n: int = 10_000, seed: int = 0):
        self.n = check_int("evaluator.disentanglement.n", n, minimum=LEAST_IMAGES)
        self.seed = check_int("evaluator.disentanglement.seed", seed, minimum=0)

    def evaluate(self, loaded: LoadedRun) -> Evaluation:
        images = loaded.data.images
        if not images.factors:
            raise NotApplicable(
                f"evaluator=disentanglement needs known factors of variation, and {images.title} "
                "has none: train on data=sprites"
            )
        if len(loaded.model.bottleneck.shape) > 1:
            raise NotApplicable(
                f"evaluator=disentanglement needs codes of one vector, and those of "
                f"{loaded.run.path} are maps: take body=mlp or body=cnn with bottleneck=linear or "
                "gaussian"
            )
        splits = [loaded.data.split(name).first(self.n) for name in ("train", "test")]
        if min(map(len, splits)) < LEAST_IMAGES:
            raise UserError(
                f"evaluator=disentanglement needs {LEAST_IMAGES} training and test images, and "
                f"{images.title} has {' and '.join(str(len(split)) for split in splits)}"
            )
        factors = [images.factor_levels(split).numpy() for split in splits]
        pixels = [to_pixels(split.images).flatten(1).numpy() for split in splits]
        codes = [loaded.encode_split(split).numpy() for split in splits]
        dims = codes[0].shape[1]
        vectors = {f"{dims} principal components": principal_components(pixels, dims)}
        vectors["code"] = codes
        rows = {name: score(*parts, *factors, self.seed) for name, parts in vectors.items()}
        train, test = map(len, splits)
        title = f"{loaded.run.name}: disentanglement on {test} test images of {images.title}, "
        information = normalized_information(codes[1], factors[1])
        figure = draw_information(information, list(images.factors), images.title)
        return Evaluation(
            title + f"learnt from {train}", rows, figures={"mutual_information": figure}
        )


def score(
    train: np.ndarray,
    test: np.ndarray,
    train_factors: np.ndarray,
    test_factors: np.ndarray,
    seed: int = 0,
) -> dict[str, float]:
    """All scores of codes (N, D); see their functions."""
    varies = (train_factors.max(0) > train_factors.min(0)) & (
        test_factors.max(0) > test_factors.min(0)
    )
    factors = train_factors[:, varies], test_factors[:, varies]
    return {
        "mig": mutual_information_gap(test, factors[1]),
        **dci(train, test, *factors, seed=seed),
        "sap": separated_attribute_predictability(train, test, *factors),
        "factor_vae": factor_vae_score(test, factors[1], seed),
    }


def discretize(values: np.ndarray, bins: int = NUM_BINS) -> np.ndarray:
    """The bin of each value (N,), of `bins` of equal width from the smallest value to the largest.

    >>> discretize(np.array([0.0, 0.4, 0.6, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    low, high = values.min(), values.max()
    width = (high - low) / bins
    if width == 0:
        return np.zeros(len(values), int)
    return np.minimum((values - low) // width, bins - 1).astype(int)


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = NUM_BINS) -> np.ndarray:
    """I(c_d; v_k) in nats of each dimension, cut into bins, and each factor: (D, F).

    From counts, which overestimate by about (bins - 1) (levels - 1) / 2N where the two are
    independent: .02 nats with 20 bins, 20 levels and 10,000 images.
    """
    from sklearn.metrics import mutual_info_score

    cut = [discretize(column, bins) for column in codes.T]
    return np.array([[mutual_info_score(c, level) for level in factors.T] for c in cut])


def normalized_information(
    codes: np.ndarray, factors: np.ndarray, bins: int = NUM_BINS
) -> np.ndarray:
    """I(c_d; v_k) / H(v_k) in [0, 1], (D, F): the share of a factor that a dimension tells; 0 for
    factors of one level."""
    from sklearn.metrics import mutual_info_score

    entropies = np.array([mutual_info_score(level, level) for level in factors.T])
    information = mutual_information(codes, factors, bins)
    return np.divide(information, entropies, out=np.zeros_like(information), where=entropies > 0)


def top_gap(scores: np.ndarray) -> float:
    """The highest score of each factor (D, F) minus the second, 0 if there is no second; the mean
    over factors."""
    second, first = np.sort(np.vstack([np.zeros_like(scores[:1]), scores]), axis=0)[-2:]
    return float((first - second).mean())


def mutual_information_gap(codes: np.ndarray, factors: np.ndarray, bins: int = NUM_BINS) -> float:
    """MIG = mean_k (I(c_a; v_k) - I(c_b; v_k)) / H(v_k), a and b the dimensions that tell most.

    In [0, 1]: 1 where one dimension tells all of each factor, and every other one nothing; 0 where
    two tell as much. The paper integrates over q(c | x); here codes are points, cut into 20 bins.
    Source: Chen, Li, Grosse & Duvenaud, NeurIPS 2018, arXiv:1802.04942; points as in Locatello et
    al., ICML 2019, arXiv:1811.12359.
    """
    return top_gap(normalized_information(codes, factors, bins))


def dci(
    train: np.ndarray,
    test: np.ndarray,
    train_factors: np.ndarray,
    test_factors: np.ndarray,
    seed: int = 0,
) -> dict[str, float]:
    """Disentanglement, completeness and informativeness, each in [0, 1].

    A random forest of 20 trees learns each factor from all dimensions; each split is the best of
    all dimensions, each leaf has 20 images or more. R (D, F) has the importance of dimension d for
    factor k, the impurity that its splits take away, 1 in sum for each factor.

    disentanglement = Σ_d w_d (1 - H(R_d· / Σ_k R_dk) / log F),  w_d = Σ_k R_dk / Σ R
    completeness = mean_k (1 - H(R_·k) / log D)
    informativeness = mean_k accuracy of the forest on test images

    The first is 1 where each dimension matters for one factor, the second where one dimension
    matters for each factor. Chance has 1 / levels for the third. The paper has regressions and
    their error; levels are classes here, since a shape has no order and an angle no end.
    Source: Eastwood & Williams, ICLR 2018.
    """
    from sklearn.ensemble import RandomForestClassifier

    importances, accuracies = [], []
    for known, asked in zip(train_factors.T, test_factors.T, strict=True):
        forest = RandomForestClassifier(
            NUM_TREES, min_samples_leaf=LEAF_SIZE, max_features=None, random_state=seed
        ).fit(train, known)
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(test, asked))
    matrix = np.array(importances).T
    totals = matrix.sum(1)
    weights = totals / max(totals.sum(), np.finfo(float).tiny)
    return {
        "disentanglement": float(weights @ concentration(matrix)),
        "completeness": float(concentration(matrix.T).mean()),
        "informativeness": float(np.mean(accuracies)),
    }


def concentration(rows: np.ndarray) -> np.ndarray:
    """1 - H / log n of each row (n,) of weights >= 0, as shares: 1 if all weight is in one place, 0
    if it is spread evenly or there is none."""
    from scipy.stats import entropy

    totals = rows.sum(1, keepdims=True)
    width = rows.shape[1]
    shares = np.divide(rows, totals, out=np.full_like(rows, 1 / width), where=totals > 0)
    return 1 - entropy(shares, axis=1) / np.log(max(width, 2))


def separated_attribute_predictability(
    train: np.ndarray, test: np.ndarray, train_factors: np.ndarray, test_factors: np.ndarray
) -> float:
    """SAP = mean_k (S_ak - S_bk), a and b the dimensions that predict factor k best.

    S_dk is the balanced accuracy A on test images of thresholds on dimension d alone, a decision
    tree with as many leaves as the factor has levels L, above chance: (A - 1 / L) / (1 - 1 / L), or
    0 where that is negative. In [0, 1]. The paper has thresholds for factors without order, and the
    squared correlation for the others; thresholds serve both here. Numbers of a linear SVM, as in
    Locatello et al., 2019, are others: it cannot find a middle level.
    Source: Kumar, Sattigeri & Balakrishnan, ICLR 2018, arXiv:1711.00848.
    """
    from sklearn.tree import DecisionTreeClassifier

    scores = np.zeros((train.shape[1], train_factors.shape[1]))
    for k, (known, asked) in enumerate(zip(train_factors.T, test_factors.T, strict=True)):
        levels = len(np.unique(known))
        for d in range(train.shape[1]):
            tree = DecisionTreeClassifier(
                max_leaf_nodes=levels, class_weight="balanced", random_state=0
            ).fit(train[:, [d]], known)
            predicted = tree.predict(test[:, [d]])
            accuracy = np.mean([(predicted[asked == v] == v).mean() for v in np.unique(asked)])
            scores[d, k] = max(0, (accuracy - 1 / levels) / (1 - 1 / levels))
    return top_gap(scores)


def factor_vae_score(
    codes: np.ndarray,
    factors: np.ndarray,
    seed: int = 0,
    votes: int = NUM_VOTES,
    size: int = VOTE_SIZE,
) -> float:
    """How often the dimension that varies least tells which factor is held fixed.

    A vote draws a factor, one of its levels, and `size` images of that level, with replacement. It
    is for the dimension whose variance among them, over that among all images, is lowest. Each
    dimension stands for the factor that is most often fixed when it is voted for, in `votes` votes;
    the score is how often that is right in as many others. In [1 / F, 1], F the number of factors
    of more than one level; 1 / F is chance.

    Dimensions whose variance is below 0.05 times the largest take no part: Kim & Mnih leave out
    those that follow the prior, whose mean code hardly varies. 5,000 votes of 64 images.
    Source: Kim & Mnih, ICML 2018, arXiv:1802.05983.
    """
    variances = codes.var(0)
    active = variances > LEAST_VARIANCE * variances.max()
    if not active.any():
        return 1 / factors.shape[1]
    scaled = codes[:, active] / np.sqrt(variances[active])
    rng = np.random.default_rng(seed)
    counts = np.zeros((2, factors.shape[1], scaled.shape[1]))  # fold, factor, dimension
    fixed = rng.integers(factors.shape[1], size=2 * votes)
    fold = np.arange(2 * votes) % 2
    for k in range(factors.shape[1]):
        folds = fold[fixed == k]
        levels = np.unique(factors[:, k])
        chosen = rng.choice(levels, size=len(folds))
        for level in levels:
            members = np.flatnonzero(factors[:, k] == level)
            mine = folds[chosen == level]
            drawn = scaled[members[rng.integers(len(members), size=(len(mine), size))]]
            np.add.at(counts, (mine, k, drawn.var(1).argmin(1)), 1)
    meaning = counts[0].argmax(0)
    right = counts[1][meaning, np.arange(scaled.shape[1])].sum()
    return float(right / counts[1].sum())


def draw_information(information: np.ndarray, factors: list[str], title: str) -> Figure:
    """The share (D, F) of each factor that each dimension tells, as a map of gray levels; those
    that tell most come first."""
    from matplotlib.figure import Figure

    order = np.argsort(-information.max(1), kind="stable")
    figure = Figure(figsize=(5, 1.5 + 0.3 * len(information)), layout="constrained")
    axes = figure.subplots()
    shown = axes.imshow(information[order], vmin=0, vmax=1, cmap="gray_r", aspect="auto")
    axes.set_xticks(range(len(factors)), factors)
    axes.set_yticks(range(len(order)), [str(number) for number in order])
    axes.set_ylabel("dimension of the code")
    axes.set_title(title, fontsize="small", wrap=True)
    figure.colorbar(shown, label="mutual information / entropy of the factor")
    return figure
