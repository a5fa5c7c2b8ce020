"""What numbers of runs are called, their unit, format, and which way is better.

Tables, plots, `--sort` and the choice of the best checkpoint read it here. A name may begin with a
stage: `test/psnr` is the quantity `psnr`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ae_lab.tracking.labels import end_of_key
from ae_lab.tracking.run_like import RunLike

STAGES = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class Quantity:
    """A number of a run. `higher_is_better` is None where neither direction is."""

    label: str
    unit: str = ""
    format: str = ".4g"
    higher_is_better: bool | None = None
    short: str = ""  # the heading of a table's column, where the label is long

    @property
    def text(self) -> str:
        """The label with its unit, as an axis has it."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def heading(self) -> str:
        """A short form for a table's column."""
        return self.short or self.text


QUANTITIES = {
    "mse": Quantity("MSE", "per pixel", ".4f", False, "MSE"),
    "psnr": Quantity("PSNR", "dB", ".2f", True, "PSNR dB"),
    "ssim": Quantity("SSIM", "", ".3f", True),
    "psnr_missing": Quantity("PSNR of what was missing", "dB", ".2f", True, "missing PSNR dB"),
    "loss": Quantity("loss per image", "", ".4g", False, "loss"),
    "kl": Quantity("KL divergence", "nats", ".2f"),
    "kl_top": Quantity("KL divergence of the top level", "nats", ".2f"),
    "commitment": Quantity("distance of tokens to their codes", "", ".4g", False, "commitment"),
    "codebook_usage": Quantity("share of codes in use", "", ".1%", True, "usage"),
    "codebook_perplexity": Quantity("codebook perplexity", "", ".1f", True, "perplexity"),
    "parameters": Quantity("parameters", "", ",.0f", False),
    "num_decoder_inputs": Quantity("values to the decoder", "", ",.0f", None, "decoder inputs"),
    "seconds": Quantity("training time", "s", ".0f", False, "seconds"),
    "epochs": Quantity("epochs", "", ".0f"),
    "epoch": Quantity("epoch", "", ".0f"),
    "latent": Quantity("latent dimensions", "", ".0f"),
    "pca_mse": Quantity("PCA", "", ".4f", False, "PCA MSE"),
    "mse_over_pca": Quantity("ratio of MSE to PCA's", "", ".2f", False),
    "mse_4": Quantity("MSE on [-1, 1]", "", ".4f", False),
    "psnr_gain": Quantity("PSNR gain over the corrupted image", "dB", ".2f", True),
    "corrupted_psnr": Quantity("PSNR of the corrupted images", "dB", ".2f", True),
    "classical_psnr": Quantity("best classical method", "dB", ".2f", True),
    "final_over_best": Quantity("ratio of last to lowest validation MSE", "", ".3f", False),
    "val_train_loss_ratio": Quantity("ratio of validation to training loss", "", ".3f", False),
    "epochs_to_converge": Quantity("epochs to converge", "", ".1f", False),
    "epochs_to_threshold": Quantity("epochs to the threshold", "", ".2f", False),
    "gradient_energy_ratio": Quantity("gradient energy", "reconstruction / original", ".2f"),
    "gradient_flow": Quantity("gradient of the first layer over the last", "", ".2f"),
    "active_units": Quantity("active units", "", ".0f"),
    "unit_purity": Quantity(
        "share of the main class among a unit's strongest images", "", ".3f", True, "purity"
    ),
    "interpolation_confidence": Quantity(
        "label confidence between two codes", "", ".3f", True, "between codes"
    ),
    "dead_units": Quantity("share of dead units", "", ".3f", False, "dead"),
    "num_nonzero": Quantity("values of a code that are not 0", "", ".1f", None, "not 0"),
    "prior_discrepancy": Quantity("MMD² of codes and N(0, I)", "", ".4f", False, "MMD²"),
    "encoder_jacobian": Quantity("squared norm of the encoder's Jacobian", "", ".3g", None, "‖J‖²"),
    "decoder_jacobian": Quantity("squared norm of the decoder's Jacobian", "", ".3g"),
    "frechet_prior": Quantity("classifier Fréchet, prior", "", ".1f", False, "prior"),
    "frechet_standard": Quantity("classifier Fréchet, N(0, I)", "", ".1f", False, "N(0, I)"),
    "frechet_normal": Quantity("classifier Fréchet, normal", "", ".1f", False, "normal"),
    "frechet_gmm": Quantity("classifier Fréchet, mixture", "", ".1f", False, "mixture"),
    "linear_probe": Quantity("accuracy of a linear probe", "", ".4f", True, "linear probe"),
    "confidence": Quantity("label confidence of random images", "", ".3f", True, "confidence"),
    "accuracy": Quantity("label accuracy of random images", "", ".3f", True, "accuracy"),
    "label confidence": Quantity("label confidence", "", ".3f", True),
    "label accuracy": Quantity("label accuracy", "", ".3f", True),
    "frechet": Quantity("classifier Fréchet distance", "", ".2f", False, "classifier Fréchet"),
    "fid": Quantity("FID", "", ".2f", False),
    "precision": Quantity("precision", "", ".3f", True),
    "recall": Quantity("recall", "", ".3f", True),
    "density": Quantity("density", "", ".3f", True),
    "coverage": Quantity("coverage", "", ".3f", True),
    "elbo": Quantity("ELBO", "nats", ".2f", True),
    "log_p": Quantity("importance-weighted bound", "nats", ".2f", True, "log p(x)"),
    "run_gain": Quantity("PSNR of the run minus this one", "dB", "+.2f", None, "run's gain dB"),
    "run_gain_missing": Quantity(
        "the run's gain where missing", "dB", "+.2f", None, "gain there dB"
    ),
    "seconds_per_image": Quantity("time per image", "s", ".4f", False, "s/image"),
    "nearest neighbours": Quantity("accuracy of nearest neighbours", "", ".4f", True),
    "linear probe": Quantity("accuracy of a linear probe", "", ".4f", True),
    "mig": Quantity("mutual information gap", "", ".3f", True, "MIG"),
    "disentanglement": Quantity("DCI disentanglement", "", ".3f", True, "disentanglement"),
    "completeness": Quantity("DCI completeness", "", ".3f", True, "completeness"),
    "informativeness": Quantity("DCI informativeness", "", ".3f", True, "informativeness"),
    "sap": Quantity("separated attribute predictability", "", ".3f", True, "SAP"),
    "factor_vae": Quantity("FactorVAE score", "", ".3f", True, "FactorVAE"),
    "auroc": Quantity("area under the ROC curve", "", ".3f", True, "AUROC"),
    "pca_auroc": Quantity("PCA's area under the ROC curve", "", ".3f", True, "PCA's AUROC"),
    "average_precision": Quantity("average precision", "", ".3f", True),
    "trustworthiness": Quantity("trustworthiness", "", ".4f", True),
}


def quantity(name: str, runs: Iterable[RunLike] = ()) -> Quantity:
    """What a number is called; of a metric that a person added, what its class says of itself.

    >>> quantity("test/psnr").text
    'test PSNR (dB)'
    """
    stage, _, base = name.rpartition("/")
    known = QUANTITIES.get(base) or _recorded(base, runs)
    label = f"{STAGES[stage]} {known.label}" if stage in STAGES else known.label
    return Quantity(label, known.unit, known.format, known.higher_is_better, known.short)


def _recorded(base: str, runs: Iterable[RunLike]) -> Quantity:
    for run in runs:
        if base in run.metric_directions:
            return Quantity(base, higher_is_better=run.metric_directions[base])
    return Quantity(end_of_key(base))
