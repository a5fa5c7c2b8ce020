"""The parts of an autoencoder, and the LightningModule that puts them together.

`interfaces` says what the parts promise each other; `autoencoder` is the module, `steps` how it is
trained, `adversarial` the one with a critic beside it, `stacked` the one that trains layer by
layer; `bottlenecks`, `quantization`, `variational`, `priors`, `objectives`, `regularizers`,
`critics`, `likelihoods` and `networks` hold the parts that configurations name. `conditioning`
brings labels in; `gaussians`, `latent_grid`, `loss_means` and `ranks` are helpers.
"""

from ae_lab.models.adversarial import AdversarialAutoencoder
from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.bottlenecks import IdentityBottleneck, LinearBottleneck, TopKBottleneck
from ae_lab.models.critics import (
    AdversarialTerm,
    AdversarialTotalCorrelation,
    Critic,
    FeatureError,
    GeneratorLoss,
    ImageCritic,
    PermutationCritic,
    PriorCritic,
)
from ae_lab.models.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from ae_lab.models.networks.conv import ConvDecoder, ConvEncoder
from ae_lab.models.networks.mlp import MLPDecoder, MLPEncoder
from ae_lab.models.networks.unet import UNetDecoder, UNetEncoder
from ae_lab.models.objectives import (
    KL,
    Commitment,
    DeadUnitLoss,
    IWAELoss,
    LossTerm,
    NegativeLogLikelihood,
    Objective,
    PSNRLoss,
    SquaredError,
)
from ae_lab.models.priors import LabelPrior, Prior, StandardPrior, VampPrior
from ae_lab.models.quantization import QuantizedBottleneck
from ae_lab.models.regularizers import (
    CodeNorm,
    JacobianNorm,
    MaximumMeanDiscrepancy,
    SparsityKL,
    TotalCorrelation,
    WeightNorm,
)
from ae_lab.models.stacked import StackedAutoencoder
from ae_lab.models.variational import FlowBottleneck, GaussianBottleneck, LadderBottleneck

__all__ = [
    "KL",
    "AdversarialAutoencoder",
    "AdversarialTerm",
    "AdversarialTotalCorrelation",
    "Autoencoder",
    "BernoulliLikelihood",
    "CodeNorm",
    "Commitment",
    "ConvDecoder",
    "ConvEncoder",
    "Critic",
    "DeadUnitLoss",
    "FeatureError",
    "FlowBottleneck",
    "GaussianBottleneck",
    "GaussianLikelihood",
    "GeneratorLoss",
    "IWAELoss",
    "IdentityBottleneck",
    "ImageCritic",
    "JacobianNorm",
    "LabelPrior",
    "LadderBottleneck",
    "Likelihood",
    "LinearBottleneck",
    "LossTerm",
    "MLPDecoder",
    "MLPEncoder",
    "MaximumMeanDiscrepancy",
    "NegativeLogLikelihood",
    "Objective",
    "PSNRLoss",
    "PermutationCritic",
    "Prior",
    "PriorCritic",
    "QuantizedBottleneck",
    "SparsityKL",
    "SquaredError",
    "StackedAutoencoder",
    "StandardPrior",
    "TopKBottleneck",
    "TotalCorrelation",
    "UNetDecoder",
    "UNetEncoder",
    "VampPrior",
    "WeightNorm",
]
