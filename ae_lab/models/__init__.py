"""The parts of an autoencoder, and the LightningModule that puts them together.

`interfaces` says what the parts promise each other; `autoencoder` is the module; `bottlenecks`,
`quantization`, `objectives`, `likelihoods` and `networks` hold the parts that configurations name.
"""

from ae_lab.models.autoencoder import Autoencoder
from ae_lab.models.bottlenecks import (
    GaussianBottleneck,
    IdentityBottleneck,
    LadderBottleneck,
    LinearBottleneck,
)
from ae_lab.models.likelihoods import BernoulliLikelihood, GaussianLikelihood, Likelihood
from ae_lab.models.networks.conv import ConvDecoder, ConvEncoder
from ae_lab.models.networks.mlp import MLPDecoder, MLPEncoder
from ae_lab.models.networks.unet import UNetDecoder, UNetEncoder
from ae_lab.models.objectives import (
    KL,
    Commitment,
    IWAELoss,
    LossTerm,
    NegativeLogLikelihood,
    Objective,
    PSNRLoss,
    SquaredError,
)
from ae_lab.models.quantization import QuantizedBottleneck

__all__ = [
    "KL",
    "Autoencoder",
    "BernoulliLikelihood",
    "Commitment",
    "ConvDecoder",
    "ConvEncoder",
    "GaussianBottleneck",
    "GaussianLikelihood",
    "IWAELoss",
    "IdentityBottleneck",
    "LadderBottleneck",
    "Likelihood",
    "LinearBottleneck",
    "LossTerm",
    "MLPDecoder",
    "MLPEncoder",
    "NegativeLogLikelihood",
    "Objective",
    "PSNRLoss",
    "QuantizedBottleneck",
    "SquaredError",
    "UNetDecoder",
    "UNetEncoder",
]
