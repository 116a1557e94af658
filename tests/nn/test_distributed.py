"""Layers under DistributedDataParallel: two processes with half of a batch each have the gradients of the whole."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os
import sys
import torch
from torch import distributed as dist, nn
from torch.nn.parallel import DistributedDataParallel
import elman
from elman.nn import LayerNormLSTMCell

def model(kind):
    torch.manual_seed(0)
    if kind == "cell":
        return elman.Recurrent(LayerNormLSTMCell(5, 7), fallback="error")
    return elman.LSTM(5, 7, num_layers=2, bidirectional=True)

def gradients(layer, x, weight):
    y, _ = layer(x)
    ((y * weight).sum() / x.shape[1]).backward()

rank, place, kind = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
whole = model(kind)
generator = torch.Generator().manual_seed(1)
x = torch.randn(6, 8, 5, generator=generator)
weight = torch.randn(whole(x)[0].shape, generator=generator)
gradients(whole, x, weight)
layer = DistributedDataParallel(model(kind))
for _ in range(2):  # the second time the reducer's buckets have been rebuilt
    layer.zero_grad()
    mine = slice(4 * rank, 4 * rank + 4)
    gradients(layer, x[:, mine], weight[:, mine])
for p, q in zip(layer.module.parameters(), whole.parameters(), strict=True):
    torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-5)
assert layer.module.path.split("+")[0] == "native", layer.module.path
dist.destroy_process_group()
print("equal", flush=True)
os._exit(0)  # gloo's threads now and then abort the interpreter's own way out, with torch.nn.LSTM too
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["stock", "cell"])
def test_two_processes_have_the_gradients_of_the_whole(kind, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    arguments = (str(tmp_path / "meeting"), kind)
    both = [
        subprocess.Popen(
            [*command, str(rank), *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    for process in both:
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert out.split() == ["equal"]
