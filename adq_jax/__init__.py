"""Vector quantizers for JAX and Flax.

docs/quantizers.md describes each quantizer, and docs/architecture.md has a
glossary.
"""

from adq_jax.codebook.placement import Placement
from adq_jax.codebook.pools import codebook_structures
from adq_jax.codebook.shards import merge_codebook
from adq_jax.codebook.shards import split_codebook
from adq_jax.codebook.similarity import Cosine
from adq_jax.codebook.similarity import Euclidean
from adq_jax.codebook.state import Codebook
from adq_jax.codebook.state import codebook_from
from adq_jax.codebook.state import freeze_codewords
from adq_jax.codebook.statistics import code_counts
from adq_jax.codebook.statistics import Statistics
from adq_jax.codebook.updates import EmaUpdate
from adq_jax.codebook.updates import FrozenUpdate
from adq_jax.codebook.updates import GradientUpdate
from adq_jax.codebook.updates import SmoothedEmaUpdate
from adq_jax.initial import InitialValues
from adq_jax.metrics import coded_rate
from adq_jax.metrics import entropy_bits
from adq_jax.metrics import gradient_gap
from adq_jax.metrics import nominal_rate
from adq_jax.metrics import perplexity
from adq_jax.metrics import psnr
from adq_jax.metrics import usage
from adq_jax.models.vqvae import Reconstruction
from adq_jax.models.vqvae import VQVAE
from adq_jax.quantizers.adaptive import AdaptiveQuantizer
from adq_jax.quantizers.adaptive_codes import AdaptiveCodes
from adq_jax.quantizers.assignment import Nearest
from adq_jax.quantizers.assignment import SampledCodes
from adq_jax.quantizers.attention import AttentionSelector
from adq_jax.quantizers.base import Quantized
from adq_jax.quantizers.base import Quantizer
from adq_jax.quantizers.binary import BSQ
from adq_jax.quantizers.binary import LFQ
from adq_jax.quantizers.categorical import CategoricalQuantizer
from adq_jax.quantizers.categorical_slots import DirichletPosterior
from adq_jax.quantizers.categorical_slots import DistanceScores
from adq_jax.quantizers.categorical_slots import HardRelaxation
from adq_jax.quantizers.categorical_slots import HyperbolicScores
from adq_jax.quantizers.categorical_slots import LinearScores
from adq_jax.quantizers.categorical_slots import PositionDistanceScores
from adq_jax.quantizers.categorical_slots import SoftmaxPosterior
from adq_jax.quantizers.categorical_slots import SoftRelaxation
from adq_jax.quantizers.choice import AttentionChoice
from adq_jax.quantizers.choice import DistortionChoice
from adq_jax.quantizers.codewords import AffineCodewords
from adq_jax.quantizers.codewords import FreeCodewords
from adq_jax.quantizers.codewords import LinearCodewords
from adq_jax.quantizers.depth_choice import AllStages
from adq_jax.quantizers.estimators import Directional
from adq_jax.quantizers.estimators import RotationTrick
from adq_jax.quantizers.estimators import StraightThrough
from adq_jax.quantizers.estimators import Synchronized
from adq_jax.quantizers.fsq import FSQ
from adq_jax.quantizers.implicit_networks import QINCo2Network
from adq_jax.quantizers.implicit_networks import QINCoNetwork
from adq_jax.quantizers.kept import AllKept
from adq_jax.quantizers.kept import RandomKept
from adq_jax.quantizers.price import CodedPrice
from adq_jax.quantizers.price import NominalPrice
from adq_jax.quantizers.price import NoPrice
from adq_jax.quantizers.product import ProductQuantizer
from adq_jax.quantizers.qinco import QINCo
from adq_jax.quantizers.qinco_start import qinco_from_residual
from adq_jax.quantizers.random_projection import RandomProjectionQuantizer
from adq_jax.quantizers.residual import ResidualQuantizer
from adq_jax.quantizers.residual_fsq import ResidualFSQ
from adq_jax.quantizers.splits import RandomProjections
from adq_jax.quantizers.splits import Slices
from adq_jax.quantizers.vector import VectorQuantizer
from adq_jax.replicas import check_replicated
from adq_jax.search.nearest import index_codebook
from adq_jax.search.nearest import nearest_codes
from adq_jax.streams import Stream
from adq_jax.theory import optimal_codebook_size

__version__ = "0.1.0"

__all__ = [
  "AdaptiveCodes",
  "AdaptiveQuantizer",
  "AffineCodewords",
  "AllKept",
  "AllStages",
  "AttentionChoice",
  "AttentionSelector",
  "BSQ",
  "CategoricalQuantizer",
  "Codebook",
  "CodedPrice",
  "Cosine",
  "Directional",
  "DirichletPosterior",
  "DistanceScores",
  "DistortionChoice",
  "EmaUpdate",
  "Euclidean",
  "FSQ",
  "FreeCodewords",
  "FrozenUpdate",
  "GradientUpdate",
  "HardRelaxation",
  "HyperbolicScores",
  "InitialValues",
  "LFQ",
  "LinearCodewords",
  "LinearScores",
  "Nearest",
  "NoPrice",
  "NominalPrice",
  "Placement",
  "PositionDistanceScores",
  "ProductQuantizer",
  "QINCo",
  "QINCo2Network",
  "QINCoNetwork",
  "Quantized",
  "Quantizer",
  "RandomKept",
  "RandomProjectionQuantizer",
  "RandomProjections",
  "Reconstruction",
  "ResidualFSQ",
  "ResidualQuantizer",
  "RotationTrick",
  "SampledCodes",
  "Slices",
  "SmoothedEmaUpdate",
  "SoftRelaxation",
  "SoftmaxPosterior",
  "Statistics",
  "StraightThrough",
  "Stream",
  "Synchronized",
  "VQVAE",
  "VectorQuantizer",
  "check_replicated",
  "code_counts",
  "codebook_from",
  "codebook_structures",
  "coded_rate",
  "entropy_bits",
  "freeze_codewords",
  "gradient_gap",
  "index_codebook",
  "merge_codebook",
  "nearest_codes",
  "nominal_rate",
  "optimal_codebook_size",
  "perplexity",
  "psnr",
  "qinco_from_residual",
  "split_codebook",
  "usage",
]
