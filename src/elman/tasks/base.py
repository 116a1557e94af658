"""What all applications share: what a task is, and the way from a run back to a model.

A task is one file: Config Data Model Loss Metrics Predict, in this order, and one line in `TASKS`. Nothing here imports
torch before the settings and the data are found good.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from elman.config import UserError, build, nearest, options, values_of
from elman.data.inputs import Item, lines
from elman.tasks import verbs
from elman.tasks.code import check_code, made
from elman.tasks.inspection import Inspect, inspect
from elman.tasks.verbs import Answer, Verb
from elman.training.run import Run
from elman.training.score import Score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from elman.data.account import Account
    from elman.page import Section
    from elman.plots import ModelDrawing
    from elman.tasks.inspection import Inside
    from elman.training.loop import Measure, StepLoss

__all__ = [
    "TASKS",
    "Answer",
    "Baseline",
    "Batches",
    "Item",
    "Prepared",
    "Score",
    "Task",
    "Trained",
    "Verb",
    "Word",
    "configure",
    "find",
    "load",
    "open_run",
]

# Files that the base itself keeps in a run folder.
BASELINES, SCORES = "baselines.json", "scores.json"

# (epoch from 1, index of the batch in it) -> batch; nothing else decides what is in it.
Batches = Callable[[int, int], Any]


class Word(NamedTuple):
    """A word of the command line: the module of `elman.tasks` that carries it out, and what is its own.

    module: the file's name; one with a dot is taken as it is, for a task that lies elsewhere. summary: a line of help.
    defaults: values by option path (`data.batch`) that stand in for the settings' own defaults.
    """

    module: str
    summary: str
    defaults: Mapping[str, Any] = MappingProxyType({})


TASKS: dict[str, Word] = {
    "language-model": Word(
        "language_model", "learn to write on from any text: characters, bytes, words or byte pairs"
    ),
    "classification": Word(
        "classification", "give texts one label, or several, of any kind", {"optimizer.schedule": "cosine"}
    ),
    "emotion": Word(
        "classification",
        "tell which emotion, or which emotions, texts show",
        {"optimizer.schedule": "cosine"},
    ),
    "tagging": Word(
        "tagging",
        "tag the words of sentences: parts of speech, names, spans of any kind",
        {"optimizer.schedule": "cosine"},
    ),
    "series": Word(
        "series",
        "forecast measured series, tell their class, find what is out of the ordinary",
        {"optimizer.schedule": "cosine"},
    ),
    "sentiment": Word(
        "classification",
        "tell good from bad: the sentiment of texts",
        {"optimizer.schedule": "cosine", "data.batch": 64, "data.unique": True, "training.epochs": 4},
    ),
    "music": Word(
        "music",
        "write music: from nothing, on from a primer, below a melody",
        {"optimizer.schedule": "cosine", "training.epochs": 100},
    ),
    "speech": Word(
        "speech",
        "write down speech, while one speaks if wanted; or tell words, speakers, emotions",
        {"optimizer.schedule": "cosine"},
    ),
    "captioning": Word(
        "captioning",
        "say what pictures show: learn from pictures with sentences about them",
        {"optimizer.schedule": "cosine", "training.epochs": 30},
    ),
    "translation": Word(
        "translation",
        "translate: learn from sentences with their translations, or from any pairs of sequences",
        {"optimizer.schedule": "cosine", "optimizer.optimizer": "adam", "optimizer.beta2": 0.98},
    ),
    "video-tagging": Word(
        "video_tagging",
        "tell what clips show, whole or moment by moment: videos, features, skeletons",
        {"optimizer.schedule": "cosine", "training.epochs": 30},
    ),
}


class Baseline(NamedTuple):
    """What a simple rule reaches on a part ("test", "valid") of the same split."""

    name: str
    part: str
    score: Score

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"baseline": self.name, "part": self.part, **self.score.to_json()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Baseline:
        """What `to_json` wrote."""
        return cls(saved["baseline"], saved["part"], Score.from_json(saved))


class Prepared(Protocol):
    """The data of a training, read and divided.

    codec: what the use of the model needs beside its weights, such as a tokenizer, labels, a scaling; it is learnt from
    the training part alone.
    """

    @property
    def codec(self) -> Any:
        """Between the user's values and the model's numbers, both ways."""

    def part(self, name: str) -> Any:
        """The examples of "train", "valid" or "test"; None where there are none."""

    def facts(self) -> dict[str, Any]:
        """Sizes and a fingerprint, for run.json: they must be equal for a run to be continued."""

    def files(self) -> dict[str, Any]:
        """JSON files for the run folder, by name: the codec, the account, the split."""

    def lines(self) -> list[str]:
        """Lines to show before training begins: what was read, used and left out."""


class Trained:
    """The trained model of a run, ready to be used. Tasks make a subclass of it, with methods of their own."""

    def __init__(
        self, task: Task, run: Run, config: Any, codec: Any, model: nn.Module, where: Mapping[str, Any]
    ) -> None:
        """`elman.load` gives all of these; `where`: step and epoch of the checkpoint."""
        self.task, self.run, self.config, self.codec, self.where = task, run, config, codec, where
        self.model: Any = model
        self.model.eval()
        self._prepared: Prepared | None = None
        # What was read and left out of the files that were last measured on.
        self.account: Account | None = None

    @property
    def prepared(self) -> Prepared:
        """The run's own data, read once. Raises UserError where they are no longer those of the training."""
        if self._prepared is None:
            self._prepared = self.task.prepare(self.config, self.codec)
            check_same_data(self.run, self._prepared)
        return self._prepared

    def keep(self, prepared: Prepared) -> None:
        """Use data that are already read."""
        self._prepared = prepared

    def evaluate(self, data: Any = None, **settings: Any) -> Score:
        """Measure on files (`data`), or on a part of the run's own data (`part`: "test", "valid", "train").

        settings: by the names of the flags of `elman evaluate`.
        """
        paths = (data,) if isinstance(data, str | os.PathLike) else tuple(data or ())
        kind = self.task.verbs()["evaluate"].settings
        return self.measured(build(kind, {**settings, "data": [os.fspath(path) for path in paths]}))

    def measured(self, settings: Any) -> Score:
        """What `elman evaluate` with these settings finds."""
        score = self.task.measure(self.model, self.codec, self.examples(settings), self.config)
        assert score is not None
        return score

    def examples(self, settings: Any) -> Any:
        """What `elman evaluate` with these settings measures on. Raises UserError where there is nothing."""
        if settings.data:
            return self.read(settings.data, self.config)
        found = self.prepared.part(settings.part)
        if found is None:
            raise UserError(f"{self.run.path} has no {settings.part} data; give some by --data")
        return found

    def read(self, paths: tuple[str, ...], config: Any) -> Any:
        """Other files, by the settings in `config`; their account is kept."""
        found = self.task.read(paths, config, self.codec)
        self.account = getattr(found, "account", None)
        return found

    def in_words(self, score: Score) -> str:
        """A score as a sentence."""
        return str(score)

    def baselines(self) -> list[Baseline]:
        """What simple rules reach on the run's own data, as the training found it."""
        if not (self.run.path / BASELINES).is_file():
            return []
        return [Baseline.from_json(saved) for saved in self.run.read_json(BASELINES)]

    def scores(self) -> dict[str, Score]:
        """What the training has measured of this model at its end, by the part of the run's own data."""
        if not (self.run.path / SCORES).is_file():
            return {}
        kept = self.run.read_json(SCORES)
        own = {part: saved for part, saved in kept.items() if saved.get("step") == self.where["step"]}
        return {part: Score.from_json(saved) for part, saved in own.items()}

    def sections(self, examples: Any) -> Iterable[Section]:
        """The task's own part of the report, on the examples of the test data: the worst errors, pictures."""
        return ()

    def inside(self) -> Inside | str:
        """How its network reads, which lets `elman inspect` look into it; or why there is no such view, a sentence."""
        return f"a run of {self.task.name} has no view of its inside: its task does not say how the network reads"

    def predict(self, inputs: Any, **settings: Any) -> Any:
        """What the model says to one input, or to a list of them: as many answers, in their order.

        An answer is what `elman predict --json` prints; one that could not be given has an "error". settings: by the
        names of the flags of `elman predict`.
        """
        many = isinstance(inputs, Sequence) and not isinstance(inputs, str | bytes)
        values = list(inputs) if many else [inputs]
        flags: Any = build(self.task.verbs()["predict"].settings, settings)
        answers: list[Mapping[str, Any]] = []
        for start in range(0, len(values), flags.together):
            items = [
                Item(value, f"input {start + i}") for i, value in enumerate(values[start:][: flags.together])
            ]
            found = self.answers(items, flags)
            answers += [{"error": said} if isinstance(said, str) else said.data for said in found]
        return answers if many else answers[0]

    def inputs(self, settings: Any) -> Iterator[list[Item]]:
        """What `elman predict` is to answer, in groups; lines of text unless a task reads something else."""
        return lines(settings.inputs, settings.together)

    def answers(self, items: Sequence[Item], settings: Any) -> list[Answer | str]:
        """An answer to each item, in order; where there is none, the reason in a few words."""
        found = iter(self.answer([item.value for item in items if not item.fault], settings))
        answers = [item.fault or next(found) for item in items]
        if next(found, None) is not None:
            raise RuntimeError(f"{type(self).__name__}.answer gave more answers than it was asked")
        return answers

    def answer(self, values: Sequence[Any], settings: Any) -> Iterable[Answer | str]:
        """The task's own: one answer for each value, in order; a text in place of it says why there is none."""
        raise UserError(f"a run of {self.task.name} cannot predict")


class Task(ABC):
    """An application. `settings` has the sections `optimizer` and `training` beside the task's own.

    The same `model` is trained, loaded and drawn; the same `measure` validates and evaluates.
    """

    settings: ClassVar[type]
    trained: ClassVar[type[Trained]] = Trained

    def __init__(self, name: str) -> None:
        """Take the word by which the command line called it."""
        self.name = name

    def verbs(self) -> dict[str, Verb]:
        """What `elman VERB RUN` can do with a run of this task."""
        return {
            "evaluate": Verb(verbs.Evaluate, "Measure a trained model.", verbs.evaluate),
            "predict": Verb(
                verbs.Predict, "Answer inputs with a trained model, line by line.", verbs.predict
            ),
            "report": Verb(verbs.Report, "Write one HTML file about a run.", verbs.report),
            "draw": Verb(verbs.Draw, "Draw a trained model, as it is and unfolded over time.", verbs.draw),
            "export": Verb(verbs.Export, "Write a model that runs without torch.", verbs.export),
            "inspect": Verb(
                Inspect, "Look inside a trained model: gradients, gates, states, units.", inspect
            ),
        }

    def leaves(self, trained: Any) -> Mapping[str, str]:
        """What a frozen model needs beside its numbers, by key (docs/export.md). UserError where there is no
        such form of this task's models."""
        raise UserError(f"a run of {self.name} cannot be exported yet; docs/export.md says what can")

    def example(self, trained: Any) -> Any:
        """What the network reads, where a frozen model cannot tell from the network how wide it is (`elman.export`)."""
        return None

    def says(self, trained: Any) -> Mapping[str, str]:
        """What an ONNX file says of itself, by key (docs/onnx.md): the task, and what stands between data and numbers.
        UserError where there is no such form of this task's models."""
        return self.leaves(trained)

    def settle(self, config: Any) -> Any:
        """The settings as the run keeps them, good from any working directory."""
        return config

    def fold(self, config: Any, number: int, count: int) -> Any:
        """The settings under which part `number` (from 1) of `count` equal parts of the data is tested on.

        Goes by the option `fold` in the section `data` (see `elman.config.Fold`). Raises UserError where there is none.
        """
        if "data.fold" not in {entry.path for entry in options(self.settings)}:
            raise UserError(f"--folds: the data of {self.name} cannot be divided into folds")
        return replace(config, data=replace(config.data, fold=f"{number}/{count}"))

    @abstractmethod
    def prepare(self, config: Any, codec: Any | None) -> Prepared:
        """Read and divide the data. The codec of a run that goes on is given; else it is learnt from them."""

    @abstractmethod
    def codec(self, run: Run) -> Any:
        """The codec that `Prepared.files` wrote into a run. Raises UserError where it is damaged."""

    @abstractmethod
    def model(self, config: Any, codec: Any) -> nn.Module:
        """The network, on the CPU, its first parameters drawn from torch's global generator."""

    @abstractmethod
    def batches(self, config: Any, prepared: Prepared) -> tuple[Batches, int]:
        """The training batches, and how many of them are an epoch, the same number in each.

        A batch depends on the seed in the settings, the epoch and the index alone: a training that goes on inside an
        epoch reads the same ones.
        """

    def initial_state(self, model: Any, config: Any) -> Any:
        """What is carried into the first batch of an epoch; `()` where nothing is carried from batch to batch.

        Of as many streams as `config.data.batch` says.
        """
        return ()

    def rows(self, batch: Any) -> int:
        """How many rows a batch has, each a text, a recording, a stream: what may be dealt out to processes."""
        return len(batch) if isinstance(batch, list) else int(batch.rows)

    def pick(self, batch: Any, rows: npt.NDArray[np.int64]) -> Any:
        """The batch of some of the rows. The objectives of all picks, by their weights, have the mean of the whole."""
        return [batch[row] for row in rows] if isinstance(batch, list) else batch.pick(rows)

    @abstractmethod
    def loss(self, model: Any, batch: Any, state: Any, config: Any) -> StepLoss:
        """What is made of a batch in training."""

    @abstractmethod
    def progress(self, codec: Any) -> Measure:
        """How the training loss is shown, and what is counted."""

    @abstractmethod
    def measure(self, model: Any, codec: Any, examples: Any, config: Any) -> Score | None:
        """How good a model is on examples, decoded as in use, never with the truth at hand; None without examples.

        It sets the model to `eval()` itself, and takes no gradient.
        """

    def show(self, model: Any, codec: Any, config: Any, step: int) -> list[str]:
        """What a model in training writes, draws, says at a step, for the log; nothing at most steps.

        It sets the model to `eval()` itself, and moves no global generator.
        """
        return []

    @abstractmethod
    def read(self, paths: tuple[str, ...], config: Any, codec: Any) -> Any:
        """The examples of other files, as `Prepared.part` gives them."""

    def baselines(self, config: Any, prepared: Prepared) -> Iterable[Baseline]:
        """What simple rules, learnt from the training part, reach on the others, in the measure of `measure`."""
        return ()

    @abstractmethod
    def describe(self, trained: Any, *, steps: int) -> ModelDrawing:
        """The model as `elman.plots` draws it, unfolded over `steps` steps."""

    def closing(self, trained: Any) -> list[str]:
        """Lines to show after training, beside the measure on the test data: how to go on."""
        return [f"the run is in {trained.run.path}"]


def find(name: str) -> Task:
    """The task that a word of the command line calls. Raises UserError for an unknown one."""
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"; the tasks are {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r}{hint}")
    module = TASKS[name].module
    task: type[Task] = import_module(module if "." in module else f"elman.tasks.{module}").TASK
    return task(name)


def configure(
    task: Task, values: Mapping[str, Any], *, text: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """The settings of a new run: the word's own defaults, then `values`; `text`: see `elman.config.build`."""
    return build(task.settings, {**TASKS[task.name].defaults, **values}, text=text)


def open_run(path: str | os.PathLike[str], *, trust: bool = False) -> tuple[Run, Task]:
    """The run in a folder and the task that made it. Raises UserError where there is none.

    trust: whether code that the run names (`--cell package.module:Class`) may be run.
    """
    run = Run.open(Path(path))
    check_code(run, trust=trust)
    return run, find(run.entry("task"))


def load(
    path: str | os.PathLike[str], *, checkpoint: str = "best", device: str = "cpu", trust: bool = False
) -> Any:
    """The trained model in a run folder: `predict`, `evaluate`, `model`, and the methods that fit its task.

    checkpoint: "best" at validation (the last one where there was no validation), or "last". trust: a run with a cell
    of the user's own names code, which is run only by leave. Raises UserError, in one line, if the folder is missing,
    damaged or from a newer version, or if it needs code and there is no leave.
    """
    run, task = open_run(path, trust=trust)
    return load_run(run, task, checkpoint=checkpoint, device=device)


def load_run(run: Run, task: Task, *, checkpoint: str, device: str) -> Trained:
    """The model of a run. Torch's generators stay where they are."""
    config = saved_config(run, task)
    codec = task.codec(run)
    import torch

    from elman.training.checkpoint import load_weights

    with torch.random.fork_rng(devices=[]):
        model = made(task, config, codec)
    where = load_weights(model, run, checkpoint)
    return task.trained(task, run, config, codec, model.to(device), where)


def saved_config(run: Run, task: Task) -> Any:
    """The settings that a run was made with."""
    nested = run.entry("config")
    if not isinstance(nested, dict):
        raise UserError(
            f"{run.path / 'run.json'} is damaged: its config is no table; bring it back or train anew"
        )
    settings: Any = build(task.settings, values_of(task.settings, nested, source=str(run.path / "run.json")))
    return settings


def check_same_data(run: Run, prepared: Prepared) -> None:
    """Raise UserError unless these are the data that a run was trained on."""
    if prepared.facts() != run.entry("data"):
        raise UserError(
            f"the data are not those that {run.path} was trained on (a file has changed, or this Python has another "
            f"standard library): bring them back, or train anew"
        )
