"""From settings to a trained run, and on from where one stands."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import Option, UserError, build, options, pasted, require, tables, values_of
from elman.data.watching import watched
from elman.tasks.base import (
    BASELINES,
    SCORES,
    TASKS,
    Prepared,
    Task,
    Trained,
    check_same_data,
    load_run,
    saved_config,
)
from elman.tasks.code import code_entries, made
from elman.tasks.limits import check_memory, check_threads
from elman.tasks.rehearsal import rehearse
from elman.tasks.report import write_report
from elman.tasks.start import fill_from
from elman.tasks.verbs import verdict
from elman.training.ahead import Ahead
from elman.training.parallel import here, rows_of, stream_axes
from elman.training.run import FORMAT, Run, check_free, stage, write_json
from elman.training.score import Score
from elman.training.score import number as number_text
from elman.training.settings import OptimizerSettings, TrainingSettings

if TYPE_CHECKING:
    from elman.training.loop import StepLoss
    from elman.training.progress import Display

__all__ = ["TaskLearner", "dry_run", "resume", "train", "train_folds"]


class TaskLearner:
    """A task with its data, as the training loop sees it."""

    def __init__(self, task: Task, config: Any, prepared: Prepared) -> None:
        """Draw the model's first parameters from torch's global generator."""
        self.task, self.config, self.prepared = task, config, prepared
        self.codec = prepared.codec
        self.model: Any = made(task, config, self.codec).to(config.training.device)
        batches, self.epoch_steps = task.batches(config, prepared)
        self.batches = Ahead(batches, self.epoch_steps)
        self._streams: list[int | None] | None = None
        self.measure = task.progress(self.codec)

    @property
    def waited(self) -> float:
        """Seconds spent in waiting for batches."""
        return self.batches.waited

    @property
    def slow(self) -> bool:
        """Whether batches are made ahead."""
        return self.batches.slow

    def initial_state(self) -> Any:
        """What is carried into the first batch of an epoch."""
        return self.task.initial_state(self.model, self.config)

    def stream_axes(self) -> list[int | None]:
        """Where the streams lie in each leaf of the carried state: along the axis that grows with their number."""
        if self._streams is None:
            from torch.utils import _pytree as pytree

            one = pytree.tree_leaves(self.initial_state())
            self._streams = []
            if one:
                data = self.config.data
                more = replace(self.config, data=replace(data, batch=data.batch + 1))
                other = pytree.tree_leaves(self.task.initial_state(self.model, more))
                self._streams = stream_axes(one, other)
        return self._streams

    def loss(self, epoch: int, index: int, state: Any) -> StepLoss:
        """The loss of a batch, of this process's rows where several share it."""
        whole = self.batches(epoch, index)
        batch, counts = rows_of(whole, self.task.rows, self.task.pick)
        out = self.task.loss(self.model, batch, state, self.config)
        return out if counts else out._replace(total=0.0, predictions=0, weight=0)

    def validate(self) -> Score | None:
        """How good the model is on the validation data."""
        return self.task.measure(self.model, self.codec, self.prepared.part("valid"), self.config)

    def show(self, step: int) -> list[str]:
        """What the model has to show at a step."""
        return self.task.show(self.model, self.codec, self.config, step)


def train(
    task: Task, config: Any, path: Path, *, overwrite: bool, display: Display, start: Run | None = None
) -> Trained:
    """Train a new model into the folder `path`. Raises UserError before any work where something is wrong.

    start: a run with whose weights, and codec, the training starts.
    """
    # A link stays, and the run is made where it leads.
    path = path.resolve() if path.is_symlink() else path
    if here().began(path):
        return resume(task, Run.open(path), {}, display=display)
    if here().leads:
        check_free(path, overwrite=overwrite)
    learner = _learner(task, config, display, start)
    run = _begun(task, config, path, learner, start, overwrite=overwrite, display=display)
    with _held(run):
        return _fit(task, config, learner, run, display, restored=False)


def _begun(
    task: Task,
    config: Any,
    path: Path,
    learner: TaskLearner,
    start: Run | None,
    *,
    overwrite: bool,
    display: Display,
) -> Run:
    """The new run, which one process writes for all."""
    if not here().leads:
        run = Run(path, {})
        _trainer(config, learner, run, display).save()
        return run
    entries = _entries(task, config, learner.prepared)
    if start is not None:
        entries["init_from"] = str(start.path.absolute())
    if here().job:
        entries["job"] = here().job
    with stage(path, task.name, entries, learner.prepared.files(), overwrite=overwrite) as run:
        _trainer(config, learner, run, display).save()
    return run


def _held(run: Run) -> contextlib.AbstractContextManager[None]:
    """The run's folder kept from other trainings, by the process that writes into it."""
    return run.hold() if here().leads else contextlib.nullcontext()


def dry_run(task: Task, config: Any, *, display: Display, start: Run | None = None) -> None:
    """Read the data and take a few steps; say what a training would take, and leave nothing behind."""
    for line in rehearse(_learner(task, config, display, start), config):
        display.note(line)


def train_folds(
    task: Task, config: Any, path: Path, count: int, *, overwrite: bool, display: Display
) -> None:
    """Train `count` models, each tested on its own part of the data: PATH/fold-1, ... Raises UserError as `train`."""
    scores = []
    configs = [task.fold(config, number, count) for number in range(1, count + 1)]
    for number in range(1, count + 1):
        fold = path / f"fold-{number}"
        if not here().began(fold) and here().leads:
            check_free(fold, overwrite=overwrite)
    for number, own in enumerate(configs, 1):
        display.note(f"fold {number} of {count}")
        trained = train(task, own, path / f"fold-{number}", overwrite=overwrite, display=display)
        scores += [score for part, score in trained.scores().items() if part == "test"]
    if scores:
        display.note(f"{len(scores)} folds: {spread_in_words(scores)}")


def spread_in_words(scores: Sequence[Score]) -> str:
    """`accuracy 0.912, from 0.900 to 0.921, standard deviation 0.009`."""
    values = [score.value for score in scores]
    spread = f", standard deviation {number_text(statistics.stdev(values))}" if len(values) > 1 else ""
    low, high = (number_text(limit(values)) for limit in (min, max))
    return f"{scores[0].name} {number_text(statistics.fmean(values))}, from {low} to {high}{spread}"


def _learner(task: Task, config: Any, display: Display, start: Run | None) -> TaskLearner:
    _check_extras(config.training)
    check_threads(config.training.threads)
    prepared = _prepared(task, config, None if start is None else task.codec(start), display)
    _check_validation(config, prepared)
    for line in prepared.lines():
        display.note(line)
    _set_up(config.training, threads=config.training.threads)
    check_memory(task, config, prepared.codec)
    learner = TaskLearner(task, config, prepared)
    if start is not None:
        fill_from(learner.model, start)
    return learner


def _prepared(task: Task, config: Any, codec: Any, display: Display) -> Prepared:
    """The data, with a bar where reading them takes long."""
    from elman.training.progress import Reading

    with Reading(display) as reading, watched(reading):
        return task.prepare(config, codec)


def _entries(task: Task, config: Any, prepared: Prepared) -> dict[str, Any]:
    """What run.json says."""
    kept = tables(task.settle(config))
    read = {"data": prepared.facts(), "account": prepared.lines()}
    return {"module": TASKS[task.name].module, "config": kept, **read, **code_entries(kept)}


def resume(task: Task, run: Run, changes: Mapping[str, Any], *, display: Display) -> Trained:
    """Continue a run from its checkpoint; `changes` are new values for settings that may change on the way."""
    config = _changed(task, run, changes)
    _check_extras(config.training)
    check_threads(config.training.threads)
    prepared = _prepared(task, config, task.codec(run), display)
    check_same_data(run, prepared)
    _check_validation(config, prepared)
    with _held(run):
        _set_up(config.training, threads=config.training.threads)
        learner = TaskLearner(task, config, prepared)
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


def _check_extras(training: TrainingSettings) -> None:
    if training.tensorboard:
        require("tensorboard", extra="tensorboard", what="--tensorboard")


def _check_validation(config: Any, prepared: Prepared) -> None:
    """Raise UserError where something listens to validations and there are none."""
    if prepared.part("valid") is not None:
        return
    waiting = {
        "--stop-after": config.training.stop_after,
        "--validate-every": config.training.validate_every,
        "--schedule plateau": config.optimizer.schedule == "plateau",
    }
    for flag, asked in waiting.items():
        if asked:
            raise UserError(
                f"{flag} goes by validations, but there are no validation data; give some, or leave it out"
            )


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


def _trainer(config: Any, learner: TaskLearner, run: Run, display: Display) -> Any:
    from elman.training.loop import Trainer

    optimizer: OptimizerSettings = config.optimizer
    return Trainer(learner, optimizer, config.training, run, display, learner.show)


def _fit(
    task: Task, config: Any, learner: TaskLearner, run: Run, display: Display, *, restored: bool
) -> Trained:
    trainer = _trainer(config, learner, run, display)
    if restored:
        _restore(trainer, config.training, run, display)
        if trainer.finished:
            display.note(f"{run.path} {_done(trainer, config.training)}")
            return _complete(task, learner.prepared, run, display, device=config.training.device)
        if here().leads:
            run.update(format=FORMAT, module=TASKS[task.name].module, config=tables(config))
    again = f"elman train {task.name} --resume {pasted(run.path)}"
    try:
        ending = trainer.fit()
    except KeyboardInterrupt:
        display.note(
            f"stopped at once; {run.path} holds step {trainer.saved_step}, go on from there with: {again}"
        )
        raise
    if ending == "interrupted":
        display.note(f"stopped at step {trainer.position.step}, all saved; go on with: {again}")
        raise KeyboardInterrupt
    if ending == "time":
        display.note(f"the {config.training.minutes:g} minutes are over; go on with: {again}")
    if ending == "no better":
        display.note(f"{config.training.stop_after} validations in a row were no better: training ends early")
    return _finish(task, learner.prepared, run, display, device=config.training.device)


# What a training leaves beside its weights and its log.
RESULTS = (BASELINES, SCORES, "learning_curve.svg", "learning_curve.png", "report.html")


def _complete(task: Task, prepared: Prepared, run: Run, display: Display, *, device: str) -> Trained:
    """The model of a run whose training is done; what is missing of its results is made."""
    if here().leads and not all((run.path / name).is_file() for name in RESULTS):
        return _finish(task, prepared, run, display, device=device)
    return load_run(run, task, checkpoint="best", device=device)


def _finish(task: Task, prepared: Prepared, run: Run, display: Display, *, device: str) -> Trained:
    if not here().leads:
        return load_run(Run.open(run.path), task, checkpoint="best", device=device)
    trained = load_run(run, task, checkpoint="best", device=device)
    trained.keep(prepared)
    asked = trained.config.training.baselines
    beside = list(task.baselines(trained.config, prepared)) if asked else []
    write_json(run.path / BASELINES, [known.to_json() for known in beside])
    part = next((name for name in ("test", "valid") if prepared.part(name) is not None), None)
    scores = {part: trained.evaluate(part=part)} if part else {}
    write_json(
        run.path / SCORES,
        {part: {**score.to_json(), "step": trained.where["step"]} for part, score in scores.items()},
    )
    if "test" in scores:
        display.note(f"test: {trained.in_words(scores['test'])}")
        for line in verdict(scores["test"], [known for known in beside if known.part == "test"]):
            display.note(line)
    for line in task.closing(trained):
        display.note(line)
    _draw_curve(run, display)
    display.note(f"report: {write_report(trained, run.path / 'report.html')}")
    return trained


def _restore(trainer: Any, training: TrainingSettings, run: Run, display: Display) -> None:
    import torch

    from elman.training.loop import environment

    written_in = trainer.restore()
    if trainer.finished:
        return
    alike = written_in.get("processes") == here().facts().get("processes")
    if not training.threads and written_in.get("threads") and alike:
        torch.set_num_threads(int(written_in["threads"]))
    now = environment()
    for name in {**now, **written_in}:
        then, today = (facts.get(name, 1) for facts in (written_in, now))
        if then != today:
            display.note(
                f"warning: the run was begun with {name} {then}, here it is {today}; it goes on, "
                f"but not bit for bit as without the break"
            )
    display.note(f"continuing {run.path} at step {trainer.position.step}, epoch {trainer.position.epoch}")


def _done(trainer: Any, training: TrainingSettings) -> str:
    if trainer.stale:
        return (
            f"has ended early, after {trainer.streak.waited} validations without a better one; for more, give "
            f"--stop-after a larger number, or 0"
        )
    flag = "--max-steps" if training.max_steps else "--epochs"
    done = f"{training.max_steps} steps" if training.max_steps else f"{training.epochs} epochs"
    return f"has done its {done}; for more, give {flag} a larger number"


def _draw_curve(run: Run, display: Display) -> None:
    from elman.plots import learning_curve

    picture = learning_curve(run.log, run.path / "learning_curve.svg", title=run.path.name)
    display.note(f"learning curve: {picture}")
