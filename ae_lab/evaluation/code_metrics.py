"""Numbers of a run's codes of test images, for an experiment's `run_metrics`:
`function(run, ...) -> float | None`."""

import torch
from torch import Tensor

from ae_lab.core.errors import check_choice, check_float, check_int
from ae_lab.core.randomness import generator
from ae_lab.inference.loaded_run import load_run
from ae_lab.models.interfaces import AutoencoderOutput
from ae_lab.models.regularizers import JacobianNorm, inverse_multiquadric, squared_mmd
from ae_lab.tracking.run import Run
from ae_lab.training.metrics import ACTIVE_VARIANCE

MAX_IMAGES = 1000  # of those numbers that compare pairs or differentiate


def encode_test_images(run: Run, n: int | None = None) -> Tensor:
    """Codes (N, dimensions) of the first n test images, or of all; of a random code its mean."""
    loaded = load_run(run)
    return loaded.encode_split(loaded.data.split("test").first(n)).flatten(1)


def active_units(run: Run, threshold: float = ACTIVE_VARIANCE) -> float:
    """Dimensions of the code whose variance over test images is above a threshold.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016.
    """
    variance = encode_test_images(run).var(0)
    return float((variance > check_float("threshold", threshold)).sum())


def dead_units(run: Run) -> float:
    """The share of the code's dimensions that are 0 for each test image."""
    return float((encode_test_images(run) == 0).all(0).float().mean())


def num_nonzero(run: Run) -> float:
    """Values of a code that are not 0, the mean over test images: L0."""
    return float((encode_test_images(run) != 0).float().sum(1).mean())


def unit_purity(run: Run, n: int = 50) -> float | None:
    """How far a unit of the code stands for one class.

    Of the n test images with a unit's largest values, the share of their most frequent label; the
    mean over the units that are not the same for all images. None where images have no single
    label.

    Raises:
        UserError: n is not an integer >= 1.
    """
    loaded = load_run(run)
    split = loaded.data.split("test")
    if not split.has_single_labels:
        return None
    codes = loaded.encode_split(split).flatten(1)
    varying = codes[:, codes.std(0) > 0]
    strongest = varying.topk(min(check_int("n", n), len(codes)), dim=0).indices
    counts = split.labels[strongest].float().mean(0)  # (units, classes)
    return float(counts.max(1).values.mean())


def prior_discrepancy(run: Run, seed: int = 0) -> float:
    """MMD² of codes of test images and as many draws of N(0, I), with WAE's kernel; 0 if equal."""
    codes = encode_test_images(run, MAX_IMAGES)
    draws = torch.randn(codes.shape, generator=generator(seed, "prior"))
    return float(squared_mmd(codes, draws, inverse_multiquadric))


def jacobian_norm(run: Run, part: str = "encoder", n: int = 200, seed: int = 0) -> float:
    """‖J‖²_F of the encoder at its input, or of the decoder at the code, over the first n test
    images, with eight random directions where the code has more than 8 dimensions."""
    check_choice("part", part, {"encoder": None, "decoder": None})
    loaded = load_run(run)
    torch.manual_seed(seed)
    output: AutoencoderOutput = loaded.predict(n)
    return float(JacobianNorm(part, probes=8)(output, loaded.model).detach())
