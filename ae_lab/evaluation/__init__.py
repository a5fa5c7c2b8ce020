"""How good a finished run is.

`evaluator` is the contract of evaluators, `runner` runs them and caches their numbers with the
run; `reconstruction`, `samples`, `latents`, `interpolation`, `disentanglement`, `likelihood`,
`denoisers` and `anomaly` are evaluators; `run_metrics` and `code_metrics` are the numbers that an
experiment names; `classical`, `classifier`, `data_cache`, `fidelity` and `pca` are what these use.
scikit-learn, scikit-image and matplotlib are imported where they are used: every sweep imports this
package.
"""

from ae_lab.evaluation.anomaly import AnomalyEvaluator
from ae_lab.evaluation.code_metrics import (
    active_units,
    dead_units,
    jacobian_norm,
    num_nonzero,
    prior_discrepancy,
    unit_purity,
)
from ae_lab.evaluation.denoisers import DenoiserEvaluator
from ae_lab.evaluation.disentanglement import DisentanglementEvaluator
from ae_lab.evaluation.evaluator import Evaluation, Evaluator
from ae_lab.evaluation.interpolation import InterpolationEvaluator
from ae_lab.evaluation.latents import LatentEvaluator
from ae_lab.evaluation.likelihood import LikelihoodEvaluator
from ae_lab.evaluation.pca import pca_mse
from ae_lab.evaluation.reconstruction import ReconstructionEvaluator
from ae_lab.evaluation.run_metrics import (
    classical_psnr,
    corrupted_psnr,
    epochs_to_converge,
    epochs_to_threshold,
    final_over_best,
    gradient_energy_ratio,
    gradient_flow,
    psnr_gain,
    ratio,
    sample_quality,
    scaled,
    val_train_loss_ratio,
)
from ae_lab.evaluation.runner import evaluate, evaluator_number
from ae_lab.evaluation.samples import SampleEvaluator

__all__ = [
    "AnomalyEvaluator",
    "DenoiserEvaluator",
    "DisentanglementEvaluator",
    "Evaluation",
    "Evaluator",
    "InterpolationEvaluator",
    "LatentEvaluator",
    "LikelihoodEvaluator",
    "ReconstructionEvaluator",
    "SampleEvaluator",
    "active_units",
    "classical_psnr",
    "corrupted_psnr",
    "dead_units",
    "epochs_to_converge",
    "epochs_to_threshold",
    "evaluate",
    "evaluator_number",
    "final_over_best",
    "gradient_energy_ratio",
    "gradient_flow",
    "jacobian_norm",
    "num_nonzero",
    "pca_mse",
    "prior_discrepancy",
    "psnr_gain",
    "ratio",
    "sample_quality",
    "scaled",
    "unit_purity",
    "val_train_loss_ratio",
]
