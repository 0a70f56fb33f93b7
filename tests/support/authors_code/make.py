"""Records two training steps of the code of the paper's authors, in PyTorch.

    git clone https://github.com/caihongch/Adaptive-dynamic-quantization
    pip install torch==2.13.0
    cp Adaptive-dynamic-quantization/gumbel.py /tmp
    python -m tests.support.authors_code.make \\
      /tmp/gumbel.py tests/support/authors_code/steps.npz

The project has nothing of that code, which has no licence.  This script reads
its classes from a copy, and makes them small: widths of 16 instead of 128, a
pool of four codebooks, 8 images of 8 x 8 pixels of one channel.  Then it takes
two steps of their training loop, on images and Gumbel noise of its own.

The file has what each step s gets, `s/images` and `s/noise`, and what it makes:
`s/reconstructions`, `s/mse`, `s/loss`, `s/book`, `s/codes/i` and `s/error/i` of
codebook i, and `s/gradient/NAME`.  And it has all parameters and buffers after
it, `s/state/NAME`; those before the first step have s = 0.
"""

from collections.abc import Callable
import pathlib
import sys

import numpy as np

WIDTH = 16
STRUCTURES = ((64, 16), (128, 8), (256, 4), (512, 2))
BATCH, SIDE = 8, 8
NUM_STEPS = 2
SCHEDULE = 2  # updates that the temperature falls over
LEARNING_RATE = 1e-4

# What the classes have for what.
_SMALLER = (
  (
    "[512,1024,2048,4096,8192,16384,32768,65536]",
    str([size for size, _ in STRUCTURES]),
  ),
  ("[128,64,32,16,8,4,2,1]", str([dim for _, dim in STRUCTURES])),
  ("state.reshape(64, 128, 8, 8)", f"state.reshape({BATCH}, {WIDTH}, 2, 2)"),
  ("torch.randn(8, 1, 128)", f"torch.randn({len(STRUCTURES)}, 1, {WIDTH})"),
  ("vqloss = [0,0,0,0,0,0,0,0]", f"vqloss = [0] * {len(STRUCTURES)}"),
  ("range(8)", f"range({len(STRUCTURES)})"),
  ("CBloss/8", f"CBloss/{len(STRUCTURES)}"),
  ("embed_dim=128", f"embed_dim={WIDTH}"),
  ("view(-1, 128)", f"view(-1, {WIDTH})"),
  ("reshape(-1, 128)", f"reshape(-1, {WIDTH})"),
  ("out_channels=3,", "out_channels=1,"),
  ("Encoder(3,", "Encoder(1,"),
  ("num_hiddens =128", f"num_hiddens ={WIDTH}"),
  ("num_residual_hiddens = 32", f"num_residual_hiddens = {WIDTH // 4}"),
)


def main(code: str, out: str) -> None:
  """Writes the file.

  Args:
    code: the path of gumbel.py.
    out: that of the file.
  """
  import torch
  from torch import nn
  import torch.nn.functional as F

  names = {"torch": torch, "nn": nn, "F": F, "device": torch.device("cpu")}
  exec(_classes(pathlib.Path(code).read_text()), names)
  torch.manual_seed(0)
  model = names["Model"](
    names["num_hiddens"],
    names["num_residual_layers"],
    names["num_residual_hiddens"],
    names["commitment_cost"],
    names["decay"],
  )
  optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
  model.train()
  arrays = {}

  def record(step: int, **more) -> None:
    for name, value in more.items():
      arrays[f"{step}/{name}"] = value.detach().numpy().copy()

  def record_state(step: int) -> None:
    for name, value in model.state_dict().items():
      record(step, **{f"state/{name}": value})

  record_state(0)
  for step in range(1, NUM_STEPS + 1):
    images = torch.randint(256, (BATCH, 1, SIDE, SIDE)) / 255 - 0.5
    model.temperature = torch.tensor(SCHEDULE - (step - 1) + 1.0)
    # The model samples nothing else, so that it makes this noise again.
    torch.manual_seed(step)
    noise = torch.empty(1, BATCH * (SIDE // 4) ** 2, len(STRUCTURES))
    noise = -noise.exponential_().log()
    torch.manual_seed(step)
    attended, quantized = [], []
    handles = [
      model.quantization_attention.register_forward_hook(_keep(attended)),
      *(c.register_forward_hook(_keep(quantized)) for c in model._vq_vae),
    ]
    optimizer.zero_grad()
    reconstructions, loss, mse, of_codebooks, _, _ = model(images)
    loss.backward()
    optimizer.step()
    for handle in handles:
      handle.remove()
    record(
      step,
      images=images,
      noise=noise,
      reconstructions=reconstructions,
      mse=mse,
      loss=loss,
      book=(attended[0][1] + noise).argmax(dim=2),
    )
    for i, (own, made) in enumerate(zip(of_codebooks, quantized, strict=True)):
      # Their loss adds the codebook term, which equals the commitment's error.
      error = own / (1 + names["commitment_cost"])
      record(step, **{f"error/{i}": error, f"codes/{i}": made[4]})
    for name, value in model.named_parameters():
      if value.grad is not None:
        record(step, **{f"gradient/{name}": value.grad})
    record_state(step)
  np.savez_compressed(out, **arrays)


def _keep(results: list) -> Callable[..., None]:
  """Returns a hook that keeps what a module returns."""
  return lambda _module, _given, made: results.append(made)


def _classes(code: str) -> str:
  """Returns the classes of gumbel.py and its settings, made smaller."""
  start = code.index("class Residual(nn.Module)")
  end = code.index("training_loader = DataLoader(")
  code = code[start:end]
  for old, new in _SMALLER:
    if old not in code:
      raise ValueError(f"{old!r} is not in the code; it must be as published")
    code = code.replace(old, new)
  return code


if __name__ == "__main__":
  main(*sys.argv[1:])
