"""What all applications share: the way from settings to a trained run, and back from a run to a model.

Nothing here imports torch before the settings and the data are found good.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from elman.config import Count, Option, UserError, build, nearest, option, options, tables, values_of
from elman.training.run import Run, check_free, stage
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from elman.plots import ModelDrawing
    from elman.training.loop import Learner
    from elman.training.progress import Display

__all__ = ["TASKS", "Task", "Trained", "find", "load", "open_run", "resume", "train"]

# The command's word -> what the task does, in a line. The module has the same name.
TASKS = {"language-model": "learn to write on from any text: characters, bytes, words or byte pairs"}


class Trained(ABC):
    """A trained model, ready to be used."""

    run: Run


class Command(NamedTuple):
    """A command that works on a run: its settings class (for the flags), and what it prints, piece by piece."""

    settings: type
    act: Callable[[Any, Any], Iterable[str]]


@dataclass(frozen=True)
class Draw:
    """Flags of `elman draw`, the same for all tasks."""

    steps: Count = option(4, "steps over which the network is unfolded", unit="STEPS")
    to: str = option("", "folder for the pictures (empty: the run's own)", unit="FOLDER")
    checkpoint: Literal["best", "last"] = option("best", "the model at its best validation, or the last one")


class Task(ABC):
    """An application. `settings` has the sections `optimizer` and `training` beside the task's own."""

    name: ClassVar[str]
    settings: ClassVar[type]
    commands: ClassVar[Mapping[str, Command]]

    def command(self, name: str) -> Command | None:
        """What `elman NAME RUN` does with a run of this task; None where it can do no such thing."""
        if name == "draw":
            return Command(Draw, partial(draw, self))
        return self.commands.get(name)

    @abstractmethod
    def prepare(self, config: Any, run: Run | None) -> Any:
        """Read the data; what the model's use needs (a tokenizer) comes from `run` where one is continued."""

    def settle(self, config: Any) -> Any:
        """The settings as the run keeps them, good from any working directory."""
        return config

    @abstractmethod
    def files(self, data: Any) -> dict[str, Any]:
        """JSON files for the run folder."""

    @abstractmethod
    def facts(self, data: Any) -> dict[str, Any]:
        """What run.json says about the data; must be equal for a run to be continued."""

    @abstractmethod
    def notes(self, data: Any) -> list[str]:
        """Lines to show before training begins."""

    @abstractmethod
    def learner(self, config: Any, data: Any) -> Learner:
        """The model with its data, for the training loop. Draws the first parameters from torch's global generator."""

    @abstractmethod
    def load(self, run: Run, *, checkpoint: str, device: str) -> Trained:
        """The model of a run."""

    @abstractmethod
    def describe(self, trained: Any, *, steps: int) -> ModelDrawing:
        """The model as `elman.plots` draws it, unfolded over `steps` steps."""

    @abstractmethod
    def report(self, trained: Any) -> list[str]:
        """Lines to show after training: how good the model is on the test data."""


def find(name: str) -> Task:
    """The task called `name`. Raises UserError for an unknown one."""
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"; the tasks are {', '.join(TASKS)}"
        raise UserError(f"unknown task {name!r}{hint}")
    task: Task = import_module(f"elman.tasks.{name.replace('-', '_')}").TASK
    return task


def open_run(path: str | os.PathLike[str]) -> tuple[Run, Task]:
    """The run in a folder and the task that made it. Raises UserError where there is none."""
    run = Run.open(Path(path))
    return run, find(run.entry("task"))


def load(path: str | os.PathLike[str], *, checkpoint: str = "best", device: str = "cpu") -> Any:
    """The trained model in a run folder, with methods that fit its task (`generate`, `evaluate`, `score`).

    checkpoint: "best" at validation (the last one where there was no validation), or "last". Raises UserError, in one
    line, if the folder is missing, damaged or from a newer version.
    """
    run, task = open_run(path)
    return task.load(run, checkpoint=checkpoint, device=device)


def saved_config(run: Run, task: Task) -> Any:
    """The settings that a run was made with."""
    nested = run.entry("config")
    if not isinstance(nested, dict):
        raise UserError(
            f"{run.path / 'run.json'} is damaged: its config is no table; bring it back or train anew"
        )
    settings: Any = build(task.settings, values_of(task.settings, nested, source=str(run.path / "run.json")))
    return settings


def train(task: Task, config: Any, path: Path, *, overwrite: bool, display: Display) -> Trained:
    """Train a new model into the folder `path`. Raises UserError before any work where something is wrong."""
    check_free(path, overwrite=overwrite)
    data = task.prepare(config, None)
    for note in task.notes(data):
        display.note(note)
    _set_up(config.training, threads=config.training.threads)
    learner = task.learner(config, data)
    entries = {"config": tables(task.settle(config)), "data": task.facts(data)}
    with stage(path, task.name, entries, task.files(data), overwrite=overwrite) as run:
        _trainer(config, learner, run, display).save()
    with run.hold():
        return _fit(task, config, learner, run, display, restored=False)


def resume(task: Task, run: Run, changes: Mapping[str, Any], *, display: Display) -> Trained:
    """Continue a run from its checkpoint; `changes` are new values for settings that may change on the way."""
    config = _changed(task, run, changes)
    data = task.prepare(config, run)
    if task.facts(data) != run.entry("data"):
        raise UserError(
            f"the data are not those that {run.path} was trained on (a file has changed, or this Python has another "
            f"standard library): bring them back, or train anew"
        )
    with run.hold():
        _set_up(config.training, threads=config.training.threads)
        learner = task.learner(config, data)
        return _fit(task, config, learner, run, display, restored=True)


def _changed(task: Task, run: Run, changes: Mapping[str, Any]) -> Any:
    known = {entry.path: entry for entry in options(task.settings)}
    old = saved_config(run, task)
    fixed = [entry for path, entry in known.items() if path in changes and not entry.late]
    values = values_of(task.settings, tables(old), source="run.json")
    config: Any = build(task.settings, {**values, **changes}, text=changes)
    for entry in fixed:
        if _value(config, entry) != _value(old, entry):
            raise UserError(
                f"{entry.flag} cannot change while a run is continued: {run.path} was begun with "
                f"{_value(old, entry)!r}; leave it out, or begin a new run by --run"
            )
    return config


def _value(config: Any, entry: Option) -> Any:
    return getattr(getattr(config, entry.section), entry.name)


def _set_up(training: TrainingSettings, *, threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        torch.empty(0, device=training.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", maxsplit=1)[0]
        raise UserError(
            f"--device {training.device}: torch cannot use it here ({reason}); take --device cpu"
        ) from None
    torch.manual_seed(training.seed)


def _trainer(config: Any, learner: Learner, run: Run, display: Display) -> Any:
    from elman.training.loop import Trainer

    optimizer: OptimizerSettings = config.optimizer
    return Trainer(learner, optimizer, config.training, run, display)


def _fit(task: Task, config: Any, learner: Learner, run: Run, display: Display, *, restored: bool) -> Trained:
    trainer = _trainer(config, learner, run, display)
    if restored:
        _restore(trainer, config.training, run, display)
        run.update(config=tables(config))
    ending = trainer.fit()
    again = f"elman train {task.name} --resume {run.path}"
    if ending == "interrupted":
        display.note(f"stopped at step {trainer.position.step}, all saved; go on with: {again}")
        raise KeyboardInterrupt
    if ending == "time":
        display.note(f"the {config.training.minutes:g} minutes are over; go on with: {again}")
    trained = task.load(run, checkpoint="best", device=config.training.device)
    for line in task.report(trained):
        display.note(line)
    _draw_curve(run, display)
    return trained


def _restore(trainer: Any, training: TrainingSettings, run: Run, display: Display) -> None:
    import torch

    from elman.training.loop import environment

    written_in = trainer.restore()
    if trainer.finished:
        flag = "--max-steps" if training.max_steps else "--epochs"
        done = f"{training.max_steps} steps" if training.max_steps else f"{training.epochs} epochs"
        raise UserError(f"{run.path} has done its {done}; for more, give {flag} a larger number")
    if not training.threads and written_in.get("threads"):
        torch.set_num_threads(int(written_in["threads"]))
    for name, here in environment().items():
        if written_in.get(name) != here:
            display.note(
                f"warning: the run was begun with {name} {written_in.get(name)}, here it is {here}; it goes on, "
                f"but not bit for bit as without the break"
            )
    display.note(f"continuing {run.path} at step {trainer.position.step}, epoch {trainer.position.epoch}")


def draw(task: Task, trained: Trained, settings: Draw) -> Iterable[str]:
    """Draw a model into a folder; gives the pictures' paths, a line each."""
    from elman.plots import draw_model

    folder = Path(settings.to) if settings.to else trained.run.path
    return [f"{path}\n" for path in draw_model(task.describe(trained, steps=settings.steps), folder)]


def _draw_curve(run: Run, display: Display) -> None:
    from elman.plots import learning_curve

    picture = learning_curve(run.log, run.path / "learning_curve.svg", title=run.path.name)
    display.note(f"learning curve: {picture}")
