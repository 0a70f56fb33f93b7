"""What the configs of all data sets share.

A data set's `get_config(variant)` starts from here; `--config=FILE:VARIANT`
names the variant, `--config.FIELD=VALUE` overrides a field.
"""

import re

import ml_collections

from experiments.errors import UserError

KNOWN_VARIANTS = (
  "adaptive, fixed_NxD (one codebook of N codewords of width D, such as"
  " fixed_512x128)"
)


def get_config(name: str, variant: str) -> ml_collections.ConfigDict:
  """Returns the paper's settings for a variant.

  Args:
    name: of the data set, a key of `experiments.data.LOADERS`.
    variant: `"adaptive"` or `"fixed_NxD"`.

  Raises:
    UserError: if the variant is unknown.
  """
  config = ml_collections.ConfigDict()
  config.name = name
  config.variant = variant
  config.seed = 0  # of everything that is random

  # Optimization (appendix A.1): Adam, the learning rate constant in the paper.
  config.num_steps = 20_000
  config.batch_size = 64  # over all devices
  config.learning_rate = 1e-4
  config.schedule = "constant"  # or "cosine", after warm-up, down to 0
  config.warmup_steps = 0  # a linear rise from 0
  # Of the Gumbel-Softmax, in training: "linear", from num_steps down to 1 as
  # in the paper, or "constant", 1 throughout.
  config.temperature = "linear"
  config.dtype = "float32"  # of encoder and decoder, or "bfloat16"

  # Steps that the host starts at once.  More of them keep an accelerator busy
  # whose steps are short, and slow a CPU down; the three numbers below must be
  # multiples of it.
  config.steps_per_call = 1
  # Steps between two lines of the log, two evaluations of the whole validation
  # split, two checkpoints.  All three happen at the last step too.
  config.log_every = 50
  config.eval_every = 1_000
  config.checkpoint_every = 1_000
  # Training images whose codes give the frequencies for the coded rate.
  config.rate_examples = 10_000

  config.model = ml_collections.ConfigDict()
  config.model.network = "cnn_resnet"  # or "cnn", "cnn_inception"
  config.model.features = 128
  config.model.downsampling = 4
  config.model.quantization_weight = 1.0  # beta

  config.quantizer = ml_collections.ConfigDict()
  config.quantizer.kind = "adaptive"  # or "fixed", with one structure
  config.quantizer.capacity = 65_536  # N x D of every codebook
  # ((N, D), ...); empty: all that codebook_structures(capacity) gives.
  config.quantizer.structures = ()
  config.quantizer.num_heads = 2
  config.quantizer.commitment_cost = 0.25  # alpha
  config.quantizer.decay = 0.99  # gamma
  config.quantizer.update_rule = "ema"  # or "gradient"
  config.quantizer.codebook_init = "normal"  # or "data"
  config.quantizer.revive_below = 0.0  # share of the mean count; 0: never

  config.data = ml_collections.ConfigDict()
  config.data.image_size = 28  # height and width that the model sees
  config.data.channels = 1
  config.data.random_flip = False  # left to right, in training
  # Batch size that recon_loss_sum refers to: the paper's for its data sets.
  config.data.paper_batch_size = 64

  match = re.fullmatch(r"fixed_(\d+)x(\d+)", variant)
  if match:
    codebook_size, embedding_dim = map(int, match.groups())
    config.quantizer.kind = "fixed"
    config.quantizer.structures = ((codebook_size, embedding_dim),)
    config.quantizer.capacity = codebook_size * embedding_dim
  elif variant != "adaptive":
    raise UserError(
      f"unknown variant {variant!r} of {name}; known are {KNOWN_VARIANTS}"
    )
  return config


def add_tfds_fields(config: ml_collections.ConfigDict) -> None:
  """Adds what the data sets that TFDS prepares have in common."""
  # A directory with the archives that a data set is made from; "": they are
  # downloaded, where their owner allows that, or looked for in TFDS's
  # data_dir/downloads/manual.
  config.data.manual_dir = ""
  # Where TFDS keeps what it prepared; "": its default, ~/tensorflow_datasets.
  config.data.data_dir = ""
  # A split of more uint8 pixels is read from its records while training; it is
  # slower, and the same.
  config.data.memory_budget_gib = 4.0
