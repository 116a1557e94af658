"""Networks whose parameters FSDP2 shares out among processes; torchrun starts it, process 0 prints JSON."""

import json
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint import state_dict
from torch.distributed.fsdp import fully_shard
from torch.utils import _pytree as pytree

import elman
import elman.nn

V, E, H, T, B, STEPS = 11, 7, 9, 6, 4, 20


class Slow(nn.Module):
    """A cell of a user's: h' = h + a (tanh(W [x, h]) - h)."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs + hidden, hidden)
        self.rate = nn.Parameter(torch.zeros(hidden))
        self.hidden_size = hidden

    def initial_state(self, batch: int, device: Any = None, dtype: Any = None) -> Tensor:
        return torch.zeros(batch, self.hidden_size, device=device, dtype=dtype)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = h + torch.sigmoid(self.rate) * (torch.tanh(self.mix(torch.cat((x, h), 1))) - h)
        return h, h


KINDS: dict[str, Any] = {
    "RNN": lambda: elman.nn.RNN(E, H),
    "GRU": lambda: elman.nn.GRU(E, H, 2),
    "LSTM": lambda: elman.nn.LSTM(E, H, 2),
    "a cell of one's own": lambda: elman.nn.Recurrent(Slow, E, H, 2),
}


class Network(nn.Module):
    """Embedding, layers, head."""

    def __init__(self, layers: Any) -> None:
        super().__init__()
        self.embedding, self.layers, self.head = nn.Embedding(V, E), layers(), nn.Linear(H, V)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        y, state = self.layers(self.embedding(x), state)
        return self.head(y), state


def network(kind: str, *, shard: bool) -> Network:
    torch.manual_seed(0)
    net = Network(KINDS[kind])
    if shard:
        # Each layer by itself, then what is left: embedding and head.
        fully_shard(net.layers)
        fully_shard(net)
    return net


def train(net: Network, rank: int, count: int) -> list[float]:
    """Truncated backpropagation through time with a carried state; the losses of this process's streams."""
    optimizer, draw = torch.optim.SGD(net.parameters(), 0.5, momentum=0.9), torch.Generator().manual_seed(1)
    state, losses = None, []
    for _ in range(STEPS):
        tokens = torch.randint(V, (T + 1, B), generator=draw)[:, rank::count]
        logits, state = net(tokens[:-1], state)
        state = pytree.tree_map(Tensor.detach, state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    return losses


def away(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    a, b = (torch.cat([tensors[name].double().flatten() for name in one]) for tensors in (one, other))
    return float((a - b).norm() / a.norm())


def refused(work: Any) -> str:
    try:
        work()
    except RuntimeError as error:
        return str(error)
    return ""


def main() -> None:
    distributed.init_process_group("gloo")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    whole = state_dict.StateDictOptions(full_state_dict=True)
    found = {}
    for kind in KINDS:
        net, alone = network(kind, shard=True), network(kind, shard=False)
        train(net, rank, count)
        train(alone, 0, 1)
        kept = {name: share.full_tensor() for name, share in net.state_dict().items()}
        plain = network(kind, shard=False)
        plain.load_state_dict(kept)
        again = network(kind, shard=True)
        # It puts shares into the dictionary that it is given.
        state_dict.set_model_state_dict(again, dict(kept), options=whole)
        sharded = all(type(p).__name__ == "DTensor" for p in again.parameters())
        x = torch.arange(T * 2).reshape(T, 2) % V
        with torch.no_grad():
            answers = [one(x, None)[0] for one in (net, plain, again)]
            net.layers.reshard()
            y = torch.rand(T, 2, E)
            # Without the calls that gather them, the layers see their shares, of every process its own.
            outside = refused(lambda net=net, y=y: type(net.layers).forward(net.layers, y))
            stream = refused(lambda net=net, y=y: net.layers.stream()(y[0]))
            net.layers.unshard()
            gathered = torch.equal(type(net.layers).forward(net.layers, y)[0], plain.layers(y)[0])
        found[kind] = {
            "away": away(dict(alone.state_dict()), kept),
            "sharded": sharded,
            "plain": torch.equal(answers[0], answers[1]),
            "again": torch.equal(answers[0], answers[2]),
            "outside": outside,
            "stream": stream,
            "gathered": gathered,
        }
    if rank == 0:
        print(json.dumps(found))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
