"""A small instance of every quantizer, for what all of them keep."""

from adq_jax import AdaptiveQuantizer
from adq_jax import AffineCodewords
from adq_jax import AttentionChoice
from adq_jax import BSQ
from adq_jax import CategoricalQuantizer
from adq_jax import CodedPrice
from adq_jax import Cosine
from adq_jax import Directional
from adq_jax import DistortionChoice
from adq_jax import FrozenUpdate
from adq_jax import FSQ
from adq_jax import GradientUpdate
from adq_jax import HardRelaxation
from adq_jax import HyperbolicScores
from adq_jax import LFQ
from adq_jax import LinearCodewords
from adq_jax import Placement
from adq_jax import PositionDistanceScores
from adq_jax import ProductQuantizer
from adq_jax import QINCo
from adq_jax import QINCo2Network
from adq_jax import QINCoNetwork
from adq_jax import RandomKept
from adq_jax import RandomProjectionQuantizer
from adq_jax import RandomProjections
from adq_jax import ResidualFSQ
from adq_jax import ResidualQuantizer
from adq_jax import RotationTrick
from adq_jax import SampledCodes
from adq_jax import SmoothedEmaUpdate
from adq_jax import SoftmaxPosterior
from adq_jax import VectorQuantizer
from tests.support.subject import Case

_POOL = ((20, 3), (12, 2))
CASES = {
  "vector": Case(VectorQuantizer(20, 3), width=3),
  "vector_3x3": Case(VectorQuantizer(20, 3, features=4, output_kernel=3)),
  "vector_gradient": Case(
    VectorQuantizer(
      20,
      3,
      features=4,
      update=GradientUpdate(),
      placement=Placement("data", 0.5),
    )
  ),
  "vector_linear": Case(
    VectorQuantizer(
      20,
      3,
      features=4,
      update=FrozenUpdate(),
      estimator=RotationTrick(),
      codewords=LinearCodewords(),
    )
  ),
  "vector_affine": Case(
    VectorQuantizer(
      20,
      3,
      features=4,
      update=GradientUpdate(codebook_cost=0.5),
      estimator=Directional(),
      codewords=AffineCodewords(),
    )
  ),
  "vector_smoothed": Case(
    VectorQuantizer(20, 3, features=4, update=SmoothedEmaUpdate())
  ),
  "vector_placed": Case(
    VectorQuantizer(20, 3, features=4, placement=Placement("data", 0.5))
  ),
  "vector_cosine": Case(
    VectorQuantizer(
      20,
      3,
      features=4,
      similarity=Cosine(),
      placement=Placement("kmeans", 0.5),
    )
  ),
  "vector_sampled": Case(
    VectorQuantizer(20, 3, features=4, assignment=SampledCodes(2, 4.0))
  ),
  "attention": Case(
    AdaptiveQuantizer(_POOL, 4, choice=AttentionChoice(entropy_weight=0.1))
  ),
  "attention_3x3": Case(AdaptiveQuantizer(_POOL, 4, output_kernel=3)),
  "distortion": Case(
    AdaptiveQuantizer(_POOL, 4, choice=DistortionChoice(rate_weight=0.1))
  ),
  "channels": Case(AdaptiveQuantizer(_POOL, 4, selection_unit="channels")),
  "residual": Case(
    ResidualQuantizer(
      2,
      12,
      3,
      features=4,
      stage_dropout=0.5,
      placement=Placement("kmeans", 0.5, revive_updates=1),
    )
  ),
  "vector_priced": Case(VectorQuantizer(20, 3, 4, price=CodedPrice(0.1))),
  "residual_priced": Case(
    ResidualQuantizer(2, 12, 3, features=4, price=CodedPrice(0.02))
  ),
  "residual_attention": Case(
    ResidualQuantizer(
      3, 12, 3, features=4, depth_choice=AttentionChoice(entropy_weight=0.1)
    )
  ),
  "pool_priced": Case(
    AdaptiveQuantizer(
      _POOL, 4, choice=DistortionChoice(), price=CodedPrice(0.1)
    )
  ),
  "residual_shared": Case(
    ResidualQuantizer(2, 12, 4, shared_codebook=True, beam_size=3)
  ),
  "product": Case(
    ProductQuantizer(2, VectorQuantizer(12, 2, placement=Placement("data")))
  ),
  "product_shared": Case(
    ProductQuantizer(
      2,
      VectorQuantizer(12, 3, price=CodedPrice(0.02)),
      shared_codebook=True,
      features=4,
    )
  ),
  "product_kept": Case(
    ProductQuantizer(
      2,
      VectorQuantizer(12, 2),
      kept=RandomKept(0.05),
      split=RandomProjections(),
    )
  ),
  "random_projection": Case(
    RandomProjectionQuantizer(12, 3, features=4, num_codebooks=2)
  ),
  "fsq": Case(FSQ((3, 5, 4)), width=3),
  "fsq_projected": Case(FSQ((8, 5), features=4)),
  "residual_fsq": Case(
    ResidualFSQ((4, 3), features=4, num_stages=3, stage_dropout=0.5)
  ),
  "lfq": Case(LFQ(3, temperature=0.5), width=3),
  "bsq": Case(BSQ(3, features=4, bits_per_group=2)),
  "categorical": Case(CategoricalQuantizer(20, 3), width=3),
  "categorical_distance": Case(
    CategoricalQuantizer(
      20,
      3,
      features=4,
      scores=PositionDistanceScores(),
      posterior=SoftmaxPosterior(1.0),
    )
  ),
  "categorical_hyperbolic": Case(
    CategoricalQuantizer(
      20,
      3,
      features=4,
      scores=HyperbolicScores(),
      posterior=SoftmaxPosterior(0.0),
      relaxation=HardRelaxation(),
    )
  ),
  "qinco": Case(QINCo(2, 12, 3, network=QINCoNetwork(1, hidden=5)), width=3),
  "qinco2": Case(
    QINCo(
      3,
      12,
      3,
      features=4,
      network=QINCo2Network(1, width=6, hidden=5),
      num_candidates=4,
      beam_size=2,
      replace_every=1,
    )
  ),
}


def one_of_each_class() -> tuple[str, ...]:
  """The names of the first case of each class, in order.

  For what the code of a class keeps, whatever is in its slots: that a
  transformation maps its variables, say.  To compile such a program for every
  case took a third of the time of all tests of cases.
  """
  names = {}
  for name, case in CASES.items():
    names.setdefault(type(case.quantizer), name)
  return tuple(names.values())
