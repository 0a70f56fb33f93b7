"""Runs that have a checkpoint and were never trained."""

import numpy as np

from experiments import files
from experiments.model import build
from experiments.model.state import create_state
from experiments.runs import checkpoints
from experiments.runs import workdir as workdirs
from tests.support import tiny

POOL = {"model.network": "cnn", "quantizer.structures": ((16, 4), (64, 1))}
ONE = {
  "model.network": "cnn",
  "quantizer.kind": "vector",
  "quantizer.codebook_size": 100,
  "quantizer.embedding_dim": 3,
}


def make_run(root, fields, step=0):
  """Makes a run with a checkpoint of what training would start with."""
  config = tiny.config(**fields)
  root.mkdir(exist_ok=True)
  files.write_json(root / workdirs.CONFIG, config.to_dict())
  model = build.create_model(config)
  state = create_state(config, model).replace(step=np.int32(step))
  template = checkpoints.make_template(config, model)
  saved = checkpoints.Checkpoints(root, template)
  saved.save(state, 0.0, None)
  saved.close()
  return config
