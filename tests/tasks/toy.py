"""The smallest task there can be: parity of the ones in a line of zeros and ones. It shows what a task has to say.

`tests/tasks/contract.py` holds it to the contract beside the tasks of the package; docs/tasks.md quotes it.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import Count, Fold, UserError, option
from elman.tasks.base import Answer, Baseline, Batches, Score, Task, Trained
from elman.training.run import Run
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from elman.page import Section
    from elman.plots import ModelDrawing
    from elman.training.loop import Measure, StepLoss

# Config


@dataclass(frozen=True)
class DataSettings:
    """Lines of zeros and ones."""

    lines: tuple[str, ...] = option((), "files with a line of 0 and 1 each", unit="PATH", flag="data")
    batch: Count = option(4, "lines in a batch", unit="LINES")
    fold: Fold = option("", "the part to test on, such as 2/5 (empty: the fifth)", unit="NUMBER/COUNT")


@dataclass(frozen=True)
class ModelSettings:
    """One GRU and one output."""

    hidden: Count = option(8, "width", unit="UNITS")


@dataclass(frozen=True)
class Config:
    """The settings of the toy."""

    data: DataSettings = field(default_factory=DataSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)


# Data


@dataclass(frozen=True)
class Parities:
    """Lines of zeros and ones: of five, three to train, one to validate and one to test on."""

    texts: list[str]
    bad: int
    codec: dict[str, int]
    fold: str = ""

    def part(self, name: str) -> list[str] | None:
        """The lines of a part."""
        number, count = map(int, (self.fold or "5/5").split("/"))
        test, valid = number - 1, (number - 2) % count
        kept = {"train": set(range(count)) - {test, valid}, "valid": {valid}, "test": {test}}[name]
        return [text for place, text in enumerate(self.texts) if place % count in kept] or None

    def facts(self) -> dict[str, Any]:
        """What must be equal for a run to be continued."""
        return {
            "lines": len(self.texts),
            "sha256": hashlib.sha256("\n".join(self.texts).encode()).hexdigest(),
        }

    def files(self) -> dict[str, Any]:
        """What the use of the model needs."""
        return {"codec.json": self.codec}

    def lines(self) -> list[str]:
        """The account."""
        train, test = set(self.part("train") or ()), self.part("test") or []
        leaks = sum(text in train for text in test)
        said = f"read {len(self.texts) + self.bad}, used {len(self.texts)}, left out {self.bad}: not 0 and 1"
        return [said, f"{leaks} lines are on both sides of the split"]


def read_lines(paths: Iterable[str]) -> tuple[list[str], int]:
    """The good lines of files, and how many others there are."""
    found = [line for path in paths for line in Path(path).read_text().splitlines()]
    good = [line for line in found if fits(line)]
    return good, len(found) - len(good)


def fits(line: str) -> bool:
    """Whether a line is one or more of 0 and 1."""
    return bool(line) and set(line) <= {"0", "1"}


# Model


def build(hidden: int) -> Any:
    """GRU, then one output: the logit that the number of ones is odd."""
    from torch import nn

    class Parity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent = nn.GRU(1, hidden)
            self.head = nn.Linear(hidden, 1)

        def forward(self, line: str) -> Any:
            import torch

            x = torch.tensor([[[float(letter)]] for letter in line])
            return self.head(self.recurrent(x)[0][-1, 0])

    return Parity()


# Metrics


def accuracy(found: Sequence[bool], lines: Sequence[str]) -> Score:
    """The share of right answers."""
    right = sum(odd == truth(line) for odd, line in zip(found, lines, strict=True))
    return Score("accuracy", right / len(lines), higher=True, figures={"right": right, "lines": len(lines)})


def truth(line: str) -> bool:
    """Whether the number of ones is odd."""
    return line.count("1") % 2 == 1


# Predict


class TrainedParity(Trained):
    """A trained toy."""

    def answer(self, values: Sequence[str], settings: Any) -> Iterator[Answer | str]:
        """Odd or even."""
        import torch

        for line in values:
            if not fits(line):
                yield "not a line of 0 and 1"
                continue
            with torch.no_grad():
                chance = float(self.model(line).sigmoid())
            word = "odd" if chance > 0.5 else "even"
            yield Answer(word, {"line": line, "parity": word, "odd": chance})

    def sections(self, examples: Sequence[str]) -> Iterator[Section]:
        """The lines that it gets wrong."""
        from elman.page import Section, table

        said = self.predict(list(examples))
        wrong = [
            (one["line"], one["parity"])
            for one, line in zip(said, examples, strict=True)
            if (one["parity"] == "odd") != truth(line)
        ]
        yield Section("Errors", table(["line", "answer"], wrong[:20]))


class ParityTask(Task):
    """`elman train parity`."""

    settings = Config
    trained = TrainedParity

    def settle(self, config: Config) -> Config:
        """Paths made absolute."""
        paths = tuple(str(Path(path).absolute()) for path in config.data.lines)
        return replace(config, data=replace(config.data, lines=paths))

    def prepare(self, config: Config, codec: dict[str, int] | None) -> Parities:
        """Read the lines."""
        if not config.data.lines:
            raise UserError("parity needs --data")
        texts, bad = read_lines(config.data.lines)
        return Parities(texts, bad, codec or {"longest": max(map(len, texts), default=0)}, config.data.fold)

    def codec(self, run: Run) -> dict[str, int]:
        """The length of the longest line."""
        found: dict[str, int] = run.read_json("codec.json")
        return found

    def model(self, config: Config, codec: dict[str, int]) -> Any:
        """The network."""
        return build(config.model.hidden)

    def batches(self, config: Config, prepared: Any) -> tuple[Batches, int]:
        """Lines in another order in each epoch."""
        lines, size = prepared.part("train"), config.data.batch
        number = len(lines) // size

        def batch(epoch: int, index: int) -> list[str]:
            order = random.Random(f"{config.training.seed} {epoch}").sample(range(len(lines)), len(lines))
            return [lines[place] for place in order[index * size : (index + 1) * size]]

        return batch, number

    def loss(self, model: Any, batch: Sequence[str], state: Any, config: Config) -> StepLoss:
        """Binary cross entropy."""
        import torch

        from elman.training.loop import StepLoss

        logits = torch.cat([model(line) for line in batch])
        wanted = torch.tensor([float(truth(line)) for line in batch])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        return StepLoss(loss, float(loss.detach()) * len(batch), len(batch), ())

    def progress(self, codec: dict[str, int]) -> Measure:
        """The loss as it is."""
        from elman.training.loop import Measure

        return Measure("loss", float, "lines")

    def measure(self, model: Any, codec: Any, examples: Sequence[str] | None, config: Config) -> Score | None:
        """Accuracy."""
        import torch

        if examples is None:
            return None
        model.eval()
        with torch.no_grad():
            return accuracy([float(model(line)) > 0 for line in examples], examples)

    def baselines(self, config: Config, prepared: Any) -> Iterator[Baseline]:
        """The answer that is right more often in training."""
        odd = [truth(line) for line in prepared.part("train")]
        usual = 2 * sum(odd) > len(odd)
        for part in ("valid", "test"):
            lines = prepared.part(part)
            if lines:
                yield Baseline("the usual answer", part, accuracy([usual] * len(lines), lines))

    def read(self, paths: tuple[str, ...], config: Config, codec: Any) -> list[str]:
        """Other lines."""
        return read_lines(paths)[0]

    def describe(self, trained: Any, *, steps: int) -> ModelDrawing:
        """One stack that answers at the end."""
        from elman.plots import ModelDrawing, Signal, Stack
        from elman.plots.modules import blocks_of

        reads, writes = Signal("x_t", "0 or 1", 1, "I"), Signal("y_t", "odd", 1, "K")
        stack = Stack("parity", blocks_of(trained.model.children()), reads, writes, steps, writes="last")
        return ModelDrawing(trained.run.path.name, (stack,), 1)


TASK = ParityTask
