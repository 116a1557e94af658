"""A network for each toy problem, its training, and what it does on strings that it has not seen."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor, nn

from benchmarks.toys import problems
from benchmarks.toys.cells import StackCell
from benchmarks.toys.problems import Strings
from elman.nn import Embedding, Features, SequenceClassifier, Tagger, recurrent_stack

FRESH_SEED = 1_000_003
# Rows that a network is judged by, and how many of them go through it at once.
SUMS, STRINGS, ROWS = 10_000, 1000, 100


@dataclass(frozen=True)
class Figure:
    """A measured number and the bar that it has to reach; `most`: at most the bar, else at least."""

    name: str
    value: float
    bar: float
    most: bool = False

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.value <= self.bar if self.most else self.value >= self.bar


@dataclass(frozen=True)
class Toy:
    """A problem with its network. batch: draws what a step learns from. judge: the figures on fresh rows."""

    name: str
    summary: str
    model: Callable[[], nn.Module]
    loss: Callable[[Any, Generator], Tensor]
    judge: Callable[[Any, Generator], list[Figure]]
    steps: int
    rate: float


@dataclass(frozen=True)
class Run:
    """What came of one seed: figures, seconds of processor time in training, and which path the layers took."""

    seed: int
    figures: list[Figure]
    seconds: float
    path: str


def run(toy: Toy, seed: int, *, steps: int = 0) -> Run:
    """Train with Adam, the rate falling along a cosine to a hundredth, the gradient's norm clipped at 1; then judge.

    The fresh rows come from a generator of their own, so that they are the same for all seeds and all settings.
    """
    torch.manual_seed(seed)
    drawn = np.random.default_rng(seed)
    model: Any = toy.model()
    steps = steps or toy.steps
    optimizer = torch.optim.Adam(model.parameters(), toy.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, 0.01 * toy.rate)
    begun = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad()
        toy.loss(model, drawn).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - begun
    model.eval()
    with torch.no_grad():
        figures = toy.judge(model, np.random.default_rng(FRESH_SEED))
    return Run(seed, figures, seconds, str(model.recurrent.path))


# ---- adding


def adder() -> nn.Module:
    """A GRU; its last output gives the sum."""
    return SequenceClassifier(Features(2), recurrent_stack("gru", 2, 64), 1)


def adding_loss(model: Any, drawn: Generator) -> Tensor:
    """The mean squared error on 32 rows."""
    x, y = problems.adding(drawn, 32)
    return F.mse_loss(model(x).squeeze(1), y)


def judge_adding(model: Any, drawn: Generator) -> list[Figure]:
    """The mean squared error on 10,000 rows."""
    errors = []
    for _ in range(SUMS // ROWS):
        x, y = problems.adding(drawn, ROWS)
        errors.append(float(F.mse_loss(model(x).squeeze(1), y)))
    return [Figure("mean squared error on 10,000 fresh rows", float(np.mean(errors)), 0.002, most=True)]


# ---- strings


def reader(symbols: int, cell: Any, hidden: int) -> Callable[[], nn.Module]:
    """A tagger that says at each step which symbols may come next."""

    def make() -> nn.Module:
        return Tagger(Embedding(symbols, symbols), recurrent_stack(cell, symbols, hidden), symbols)

    return make


def stack_alone(input_size: int, hidden_size: int) -> StackCell:
    """Hidden units that remember come to count by themselves, as far as the strings that they have seen."""
    return StackCell(input_size, hidden_size, recurrent=False)


def string_loss(draw: Callable[[Generator, int], Strings]) -> Callable[[Any, Generator], Tensor]:
    """Cross entropy of each symbol's being legal, a mean over the steps of 32 strings."""

    def loss(model: Any, drawn: Generator) -> Tensor:
        strings = draw(drawn, 32)
        valid = inside(strings)
        logits = model(strings.tokens, lengths=strings.lengths).logits
        return F.binary_cross_entropy_with_logits(logits[valid], strings.legal[valid])

    return loss


def inside(strings: Strings) -> Tensor:
    """bool `(T, B)`: the steps of each string."""
    return torch.arange(len(strings.tokens)).unsqueeze(1) < strings.lengths


def answers(model: Any, strings: Strings) -> tuple[Tensor, Tensor]:
    """bool `(T, B)`: the set of symbols named at a step is the legal one; the likeliest symbol is legal."""
    logits = model(strings.tokens, lengths=strings.lengths).logits
    exact = ((logits > 0) == strings.legal.bool()).all(-1)
    legal = strings.legal.gather(2, logits.argmax(-1, keepdim=True)).squeeze(-1).bool()
    return exact, legal


def judge_reber(model: Any, drawn: Generator) -> list[Figure]:
    """1,000 strings: legal at every step, every legal set whole, and the symbol that was to be remembered."""
    strings = problems.reber(drawn, STRINGS)
    exact, legal = answers(model, strings)
    outside = ~inside(strings)
    # What follows the last step but one is the long-range symbol: the tokens end before the last symbol.
    remembered = exact.gather(0, (strings.lengths - 2).unsqueeze(0))[0]
    return [
        Figure("strings with a legal symbol at every step", share((legal | outside).all(0)), 1.0),
        Figure("strings with exactly the legal symbols at every step", share((exact | outside).all(0)), 0.99),
        Figure("long-range symbols right", share(remembered), 0.99),
    ]


def judge_longer(draw: Callable[..., Strings]) -> Callable[[Any, Generator], list[Figure]]:
    """1,000 strings of 51 to 100 symbols: the legal set right at every step."""

    def judge(model: Any, drawn: Generator) -> list[Figure]:
        right = []
        for _ in range(STRINGS // ROWS):
            strings = draw(drawn, ROWS, 51, 100)
            right.append((answers(model, strings)[0] | ~inside(strings)).all(0))
        return [Figure("strings of 51 to 100 symbols right at every step", share(torch.cat(right)), 0.99)]

    return judge


def share(right: Tensor) -> float:
    """The part that is true."""
    return float(right.double().mean())


TOYS = (
    Toy(
        "adding",
        "The sum of two marked numbers among 200; a GRU of 64, its last output",
        adder,
        adding_loss,
        judge_adding,
        2000,
        0.005,
    ),
    Toy(
        "reber",
        "Embedded Reber strings: which symbols may come next; an LSTM of 32",
        reader(len(problems.REBER_SYMBOLS), "lstm", 32),
        string_loss(problems.reber),
        judge_reber,
        2000,
        0.01,
    ),
    Toy(
        "counting",
        "a^n b^n of up to 50 symbols; a cell of 16 units with a stack, its only memory",
        reader(problems.COUNT_SYMBOLS, stack_alone, 16),
        string_loss(lambda drawn, rows: problems.counting(drawn, rows, 2, 50)),
        judge_longer(problems.counting),
        1000,
        0.01,
    ),
    Toy(
        "dyck",
        "Balanced brackets of two kinds of up to 50 symbols; a cell of 16 units with a stack",
        reader(problems.DYCK_SYMBOLS, StackCell, 16),
        string_loss(lambda drawn, rows: problems.dyck(drawn, rows, 2, 50)),
        judge_longer(problems.dyck),
        1000,
        0.01,
    ),
)
