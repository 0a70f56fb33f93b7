"""What the configs of all data sets share.

A data set's `get_config(variant)` starts from here and ends with
`variants.apply`.
"""

import ml_collections

from experiments.configs import quantizers


def get_config(name: str) -> ml_collections.ConfigDict:
  """Returns the paper's settings.

  Args:
    name: of the data set, a key of `datasets.GET_CONFIG`.
  """
  config = ml_collections.ConfigDict()
  config.name = name
  config.variant = "adaptive"  # see experiments/configs/variant_table.py
  config.seed = 0  # of everything that is random

  # Optimization (appendix A.1): Adam, the learning rate constant in the paper.
  config.num_steps = 20_000
  config.batch_size = 64  # over all devices
  config.learning_rate = 1e-4
  config.schedule = "constant"  # or "cosine", after warm-up, down to 0
  config.warmup_steps = 0  # a linear rise from 0
  config.dtype = "float32"  # of encoder and decoder, or "bfloat16"

  # Steps that the host starts at once.  More of them keep an accelerator busy
  # whose steps are short, and slow a CPU down; the numbers of steps below must
  # be multiples of it.
  config.steps_per_call = 1
  # Steps between two lines of the log, two evaluations of the whole validation
  # split, two checkpoints.  All three happen at the last step too.
  config.log_every = 50
  config.eval_every = 1_000
  config.checkpoint_every = 1_000
  # Steps from one measurement of the gradient gap (eq. 5) to the next, the
  # first at step 1.  One takes about as long as a step.  0: never.
  config.gradient_gap_every = 100
  # "norm", eq. 5, before the step's update; or, as in the authors' code,
  # "mean_absolute", the mean of absolute differences, after it.
  config.gradient_gap = "norm"
  # Where the loss or its gradient is not finite, nothing of that step is kept.
  # "stop": the run ends; "skip": it goes on with the next batch, unless more
  # than max_skipped in succession were such.
  config.on_nonfinite = "stop"
  config.max_skipped = 10
  # Whether to compare, after every step, the bits of all devices' states; for
  # finding bugs, it takes time.
  config.check_replicas = False
  # Training images whose codes give the frequencies for the coded rate.
  config.rate_examples = 10_000

  config.model = ml_collections.ConfigDict()
  config.model.network = "cnn_resnet"  # or "cnn", "cnn_inception"
  config.model.features = 128
  config.model.downsampling = 4
  config.model.quantization_weight = 1.0  # beta
  config.model.reconstruction_loss = "mse"  # or "log_mse", as SQ-VAE has it
  # Whether the decoder begins with a 3x3 convolution, as the encoder ends.
  config.model.decoder_first_convolution = True
  # How its convolutions start: as in Flax, or both as in "pytorch".
  config.model.initial = ml_collections.ConfigDict()
  config.model.initial.kernel = "lecun_normal"
  config.model.initial.bias = "zeros"

  # A kind, and the fields of its class in adq_jax, which explains them.  Change
  # it with `changes.apply`.  (Not by config.quantizer.update.decay, as `update`
  # is a method of every ConfigDict.)
  config.quantizer = ml_collections.ConfigDict(quantizers.adaptive())

  # Of a choice that is sampled, where a quantizer makes one.
  config.sampling = ml_collections.ConfigDict()
  # Of the Gumbel-Softmax, in training: "linear", from num_steps down to 1 as
  # in the paper, or "constant", 1 throughout.
  config.sampling.temperature = "linear"
  # Whether evaluation samples it too; the summary has both ways.
  config.sampling.draw_in_evaluation = False

  # What a bit costs in training, of a quantizer that has a price: sampled for
  # each image from this range, by its logarithm.  At the end the range gets a
  # curve, if there are rate_examples.  0: what the quantizer's field says.
  config.rate_weight = ml_collections.ConfigDict()
  config.rate_weight.lowest = 0.0
  config.rate_weight.highest = 0.0
  config.rate_weight.warmup_steps = 0  # in which it rises from 0

  config.data = ml_collections.ConfigDict()
  config.data.image_size = 28  # height and width that the model sees
  config.data.channels = 1
  config.data.random_flip = False  # left to right, in training
  # Batch size that recon_loss_sum refers to: the paper's for its data sets.
  config.data.paper_batch_size = 64
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
