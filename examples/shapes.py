"""The five shapes of a recurrent network, each on a task of its own that it learns in seconds.

    python examples/shapes.py many-to-one

prints the share of right answers on fresh rows, and what one row looks like.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elman.decoding import sample
from elman.nn import (
    GRU,
    LSTM,
    RNN,
    Embedding,
    EncoderDecoder,
    Features,
    SequenceClassifier,
    SequenceGenerator,
    Tagger,
)


def train(model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float = 0.02) -> None:
    optimizer = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def share(right: Tensor) -> float:
    return float(right.double().mean())


def one_to_one() -> tuple[float, str]:
    """Whether the signs of two numbers agree, which no line divides: a dense network, the case T = 1."""
    model = SequenceClassifier(Features(2), RNN(2, 16), 2)

    def draw(rows: int) -> tuple[Tensor, Tensor]:
        x = torch.randn(1, rows, 2)
        return x, (x[0].prod(-1) > 0).long()

    def loss() -> Tensor:
        x, y = draw(64)
        return F.cross_entropy(model(x), y)

    train(model, loss, 300)
    x, y = draw(1000)
    found = model(x).argmax(-1)
    return share(found == y), f"{x[0, 0].tolist()} -> {bool(found[0])}"


def one_to_many() -> tuple[float, str]:
    """A scale of notes from a vector: its first note, and whether it goes up or down; fed with its own output."""
    notes, steps = 12, 6
    model = SequenceGenerator(Embedding(notes, 8), GRU(8, 24), notes, features=2)
    start = torch.arange(notes)
    way = torch.where(start < notes // 2, 1, -1)
    scale = start + way * torch.arange(steps + 1).unsqueeze(1)
    vector = torch.stack((way, start / notes), 1)

    def loss() -> Tensor:
        logits = model(scale[:-1], vector=vector).logits
        return F.cross_entropy(logits.flatten(0, 1), scale[1:].flatten())

    train(model, loss, 150)
    with torch.no_grad():
        found = torch.stack(
            list(sample(model.step, scale[0], model.start(vector), length=steps, temperature=0))
        )
    return share(found == scale[1:]), f"{vector[2].tolist()} -> {[2, *found[:, 2].tolist()]}"


def many_to_one() -> tuple[float, str]:
    """Which of two symbols came first in a sequence of 4 to 12."""
    model = SequenceClassifier(Embedding(4, 8), LSTM(8, 16, bidirectional=True), 2, pooling="last+max")

    def draw(rows: int) -> tuple[Tensor, Tensor, Tensor]:
        x, lengths = torch.randint(2, 4, (12, rows)), torch.randint(4, 13, (rows,))
        for b, n in enumerate(lengths.tolist()):
            x[torch.randperm(n)[:2], b] = torch.tensor([0, 1])
        return x, lengths, ((x == 1).int().argmax(0) < (x == 0).int().argmax(0)).long()

    def loss() -> Tensor:
        x, lengths, y = draw(32)
        return F.cross_entropy(model(x, lengths), y)

    train(model, loss, 120)
    x, lengths, y = draw(1000)
    found = model(x, lengths).argmax(-1)
    return share(found == y), f"{x[: lengths[0], 0].tolist()} -> {int(found[0])}"


def many_to_many() -> tuple[float, str]:
    """At each step, whether its symbol occurs before it and behind it: no single direction knows."""
    model = Tagger(Embedding(3, 8), GRU(8, 24, bidirectional=True), 2)
    order = torch.arange(8)
    before = order.view(1, -1) < order.view(-1, 1)

    def draw(rows: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, lengths = torch.randint(3, (8, rows)), torch.randint(3, 9, (rows,))
        valid = order.unsqueeze(1) < lengths
        same = (x.unsqueeze(1) == x.unsqueeze(0)) & valid.unsqueeze(0)
        both = (same & before.unsqueeze(-1)).any(1) & (same & before.T.unsqueeze(-1)).any(1)
        return x, lengths, both.long(), valid

    def loss() -> Tensor:
        x, lengths, y, valid = draw(64)
        return F.cross_entropy(model(x, lengths=lengths).logits[valid], y[valid])

    train(model, loss, 150)
    x, lengths, y, valid = draw(1000)
    found = model(x, lengths=lengths).logits.argmax(-1)
    n = int(lengths[0])
    return share((found == y)[valid]), f"{x[:n, 0].tolist()} -> {found[:n, 0].tolist()}"


def encoder_decoder() -> tuple[float, str]:
    """A string of four symbols turned round: the whole source is read before the target is written."""
    symbols, steps, start = 5, 4, 5
    decoder = Tagger(Embedding(symbols + 1, 12), GRU(12, 48), symbols)
    model = EncoderDecoder(Embedding(symbols, 12), GRU(12, 32, bidirectional=True), decoder)

    def loss() -> Tensor:
        x = torch.randint(symbols, (steps, 64))
        y = x.flip(0)
        fed = torch.cat((torch.full((1, 64), start), y[:-1]))
        return F.cross_entropy(model(x, fed).logits.flatten(0, 1), y.flatten())

    train(model, loss, 250, rate=0.01)
    x = torch.randint(symbols, (steps, 500))
    first = torch.full((500,), start)
    with torch.no_grad():
        found = torch.stack(list(sample(model.step, first, model.encode(x), length=steps, temperature=0)))
    return share(found == x.flip(0)), f"{x[:, 0].tolist()} -> {found[:, 0].tolist()}"


SHAPES = {
    "one-to-one": one_to_one,
    "one-to-many": one_to_many,
    "many-to-one": many_to_one,
    "many-to-many": many_to_many,
    "encoder-decoder": encoder_decoder,
}

if __name__ == "__main__":
    names = sys.argv[1:] or list(SHAPES)
    if unknown := [name for name in names if name not in SHAPES]:
        sys.exit(f"unknown shape {unknown[0]!r}; the shapes are {', '.join(SHAPES)}")
    torch.manual_seed(0)
    for name in names:
        right, row = SHAPES[name]()
        print(f"{name}: {right:.1%} right; {row}")
