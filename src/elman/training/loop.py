"""The training loop, the same for every task: batches -> loss -> gradient -> step -> checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from elman.config import UserError
from elman.training import bptt, checkpoint, parallel
from elman.training.ahead import Waiting
from elman.training.averaging import Average
from elman.training.board import Board
from elman.training.interruption import Interruption
from elman.training.log import Log, Unwritten
from elman.training.optimizer import Schedule, build_optimizer
from elman.training.progress import Display, Glance, duration
from elman.training.randomness import load_random, random_tensors, undisturbed
from elman.training.run import Run
from elman.training.score import Score, Streak, number
from elman.training.settings import OptimizerSettings, TrainingSettings

__all__ = ["Learner", "Mean", "Measure", "StepLoss", "Trainer", "environment"]

# A loss so many times the first one, the untrained model's, is no longer training.
FAR_ABOVE = 1000.0

Ending = Literal["finished", "time", "interrupted", "no better"]


class StepLoss(NamedTuple):
    """What a task makes of a batch.

    objective: the scalar to differentiate. total: the summed loss in nats, over so many `predictions`. state: to carry
    over to the next batch, in any structure of tensors; `()` where nothing is carried. weight: what the objective is a
    sum divided by, so that the mean of several objectives, so weighted, is that of all rows; None: `predictions`.
    """

    objective: Tensor
    total: float
    predictions: int
    state: Any
    weight: float | None = None

    @property
    def over(self) -> float:
        """The weight."""
        return self.predictions if self.weight is None else self.weight


@dataclass
class Mean:
    """A mean that grows."""

    total: float = 0.0
    count: int = 0

    def add(self, total: float, count: int) -> None:
        """Count a batch in."""
        self.total += total
        self.count += count

    @property
    def value(self) -> float:
        """The mean so far; NaN before the first batch."""
        return self.total / self.count if self.count else math.nan


class Measure(NamedTuple):
    """How a task speaks of its loss: `perplexity 114.5`; and what it counts: `words`."""

    name: str
    of: Callable[[float], float]
    items: str

    def text(self, loss: float) -> str:
        """The loss with its measure."""
        if self.name == "loss":
            return f"loss {self.number(loss)}"
        return f"loss {loss:.3f}  {self.name.replace(' per ', '/')} {self.number(loss)}"

    def number(self, loss: float) -> str:
        """The measure alone."""
        return number(self.of(loss))


class Learner(Protocol):
    """What a task gives to the loop. Batches depend on the epoch (from 1) and the index in it alone."""

    measure: Measure
    epoch_steps: int

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    @property
    def waited(self) -> float:
        """Seconds spent, since it was made, in waiting for batches."""

    def initial_state(self) -> Any:
        """The carried state at the start of an epoch."""

    def stream_axes(self) -> list[int | None]:
        """Along which axis of each leaf of the carried state the streams lie; asked where processes share them."""

    def loss(self, epoch: int, index: int, state: Any) -> StepLoss:
        """The loss of a batch; of this process's rows where several share it."""

    def validate(self) -> Score | None:
        """How good the model is on the validation data, decoded as in use; None where there are none."""


class DivergedError(UserError):
    """The loss or its gradient has grown beyond all measure; nothing of it is saved."""


@dataclass
class Position:
    """Where a training stands: epoch from 1, index of the next batch in it, steps done in all, seconds spent."""

    epoch: int = 1
    index: int = 0
    step: int = 0
    seconds: float = 0.0


def environment() -> dict[str, Any]:
    """What must be the same for a training to go on bit for bit."""
    return {"torch": torch.__version__, "threads": torch.get_num_threads(), **parallel.here().facts()}


@dataclass
class _Session:
    """What is measured from the start of this process on."""

    begun: float = field(default_factory=time.monotonic)
    items: int = 0
    stepping: float = 0.0
    last_checkpoint: float = field(default_factory=time.monotonic)
    start_seconds: float = 0.0
    start_step: int = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def speed(self) -> float:
        """Items a second, over the time spent in steps."""
        return self.items / self.stepping if self.stepping else 0.0


class Trainer:
    """Trains a learner into a run folder, from its start or from where the folder's checkpoint stands."""

    def __init__(
        self,
        learner: Learner,
        optimizer: OptimizerSettings,
        training: TrainingSettings,
        run: Run,
        display: Display,
        shows: Callable[[int], list[str]] | None = None,
    ) -> None:
        """Stand at the start; `restore` goes to the checkpoint.

        shows: the step -> texts by which the model, as it would be kept, is to be judged; they go into the log.
        """
        self._shows = shows
        self.learner, self.model = learner, learner.model
        self.settings, self.training = optimizer, training
        self.run, self.display = run, display
        self.optimizer = build_optimizer(self.model, optimizer)
        by_epochs = training.epochs * learner.epoch_steps
        self.total_steps = min(by_epochs, training.max_steps or by_epochs)
        self.schedule = Schedule(optimizer, self.total_steps)
        decay = optimizer.weight_average
        self.average = Average(self.model, decay) if decay else None
        self.device = next(self.model.parameters()).device
        self.position = Position()
        self.processes = parallel.here()
        self.shared = parallel.Shared(self.processes, learner, training.seed)
        self.state = self._begun()
        self.recent, self.since_validation = Mean(), Mean()
        # The cost of the best model so far, and the validations since then.
        self.best = math.inf
        self.streak = Streak()
        self._waiting = Waiting()
        self.session = _Session()
        # What the progress shows: it follows the loss of the last few dozen steps.
        self._shown = math.nan
        # The loss of the first step, beside which a training is seen to diverge; and the step that `last` stands at.
        self.first = math.nan
        self.saved_step = 0
        # Epoch, index and carried state of the last batch.
        self._tried: tuple[int, int, Any] | None = None

    def _begun(self) -> Any:
        """The state at the start of an epoch."""
        return self.processes.dealt(self.learner.initial_state(), self._axes())

    def _carried(self) -> list[Tensor]:
        """The leaves of the carried state of all streams."""
        return self.processes.gathered(bptt.pack(self.state), self._axes())

    def _axes(self) -> list[int | None]:
        """Where the streams lie in the carried state."""
        return self.learner.stream_axes() if self.processes.several else []

    def save(self) -> None:
        """Write `last`: all that continuing needs."""
        tensors = {
            **{f"model.{name}": tensor for name, tensor in checkpoint.model_tensors(self.model).items()},
            **{
                f"optimizer.{name}": tensor
                for name, tensor in checkpoint.optimizer_tensors(self.optimizer).items()
            },
            **{f"average.{name}": tensor for name, tensor in self._averaged().items()},
            **{f"carry.{i}": tensor for i, tensor in enumerate(self._carried())},
            **{f"random.{name}": tensor for name, tensor in random_tensors(self.device).items()},
        }
        facts = {
            "position": vars(self.position) | {"seconds": self.seconds},
            "schedule": self.schedule.to_json(),
            "streak": self.streak.to_json(),
            "best": None if math.isinf(self.best) else self.best,
            "recent": vars(self.recent),
            "since_validation": vars(self.since_validation),
            "environment": environment(),
            "first": None if math.isnan(self.first) else self.first,
        }
        if self.processes.leads:
            checkpoint.save(self.run.last, tensors, facts)
        self.saved_step = self.position.step
        self.session.last_checkpoint = time.monotonic()

    def _averaged(self) -> dict[str, Tensor]:
        return self.average.tensors if self.average else {}

    def restore(self) -> dict[str, Any]:
        """Go to where `last` stands; returns the environment that it was written in."""
        path = self.run.last
        tensors, facts = checkpoint.load(path)
        checkpoint.load_model(self.model, checkpoint.within(tensors, "model"), path)
        try:
            checkpoint.load_optimizer(self.optimizer, checkpoint.within(tensors, "optimizer"))
            if self.average:
                self.average.load(checkpoint.within(tensors, "average"))
            carried = checkpoint.within(tensors, "carry")
            whole = bptt.unpack(
                [carried[str(i)] for i in range(len(carried))], like=self.learner.initial_state()
            )
            self.state = self.processes.dealt(whole, self._axes())
            self.position = Position(**facts["position"])
            self._restore_costs(facts)
            self.recent, self.since_validation = Mean(**facts["recent"]), Mean(**facts["since_validation"])
            load_random(checkpoint.within(tensors, "random"), self.device)
            written_in: dict[str, Any] = facts["environment"]
            first = facts.get("first")
            self.first = math.nan if first is None else float(first)
            self.saved_step = self.position.step
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} is damaged ({error!r}); train anew by --overwrite") from None
        return written_in

    def _restore_costs(self, facts: dict[str, Any]) -> None:
        self.schedule.restore(facts["schedule"])
        if "best" in facts:
            self.streak.restore(facts["streak"])
            self.best = math.inf if facts["best"] is None else facts["best"]
            self._miss_best()
            return
        # Format 1 chose the best by its mean loss in nats.
        seen = self.schedule.streak
        seen.best = seen.best if math.isinf(seen.best) else self.learner.measure.of(seen.best)
        if self.run.best.exists():
            self.best = self.learner.measure.of(checkpoint.load(self.run.best)[1]["loss"])

    def _miss_best(self) -> None:
        """Say so where the best model's file is gone, and look for another."""
        if not math.isinf(self.best) and not self.run.best.exists():
            self.best = math.inf
            self.display.note(
                f"warning: {self.run.path} has lost {self.run.best.name}; the best from here on is kept in its place"
            )

    @property
    def seconds(self) -> float:
        """Seconds spent in training, over all sessions."""
        return self.session.start_seconds + self.session.seconds

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.stale or self.position.step >= self.total_steps

    @property
    def stale(self) -> bool:
        """Whether so many validations in a row were no better that it ends early."""
        patience = self.training.stop_after
        return bool(patience) and self.streak.waited >= patience

    def fit(self) -> Ending:
        """Train until the last epoch, the time limit, or Ctrl-C; the checkpoint `last` is written in any case."""
        self.session = _Session(start_seconds=self.position.seconds, start_step=self.position.step)
        interruption = Interruption(self.display.note)
        with self._log() as log, interruption.listening():
            log.write("resume" if self.position.step else "start", **self._where(), **self._facts())
            self.display.open()
            try:
                ending = self._steps(log, interruption)
                log.write("stop", **self._where(), reason=ending)
            except DivergedError:
                log.write("stop", **self._where(), reason="diverged")
                raise
            finally:
                self.display.close()
        return ending

    def _log(self) -> Log:
        if not self.processes.leads:
            return Unwritten()
        asked = self.training.tensorboard
        board = Board(self.run.path / "tensorboard", self.position.step) if asked else None
        return Log(self.run.log, self.position.step, board)

    def _steps(self, log: Log, interruption: Interruption) -> Ending:
        validated = interrupted = False
        while not self.finished:
            self._step(log)
            self._show(log)
            validated = self._validation_due()
            if validated:
                self._validate(log, scheduled=True)
            if self.position.index == self.learner.epoch_steps:
                self._end_epoch()
            self._glance()
            interrupted, over, due = self._asked(interruption)
            if interrupted or over:
                break
            if due:
                self._check_sound()
                self.save()
        self._check_sound()
        if not interrupted and not validated:
            self._validate(log, scheduled=False)
        # After the validation, so that what is saved knows of the best that it has found.
        self.save()
        if self.finished:
            return "no better" if self.stale else "finished"
        return "interrupted" if interrupted else "time"

    def _asked(self, interruption: Interruption) -> list[bool]:
        """Whether to stop, whether time is up, whether to save: the clock is that of the process that writes."""
        leads = self.processes.leads
        return self.processes.any(
            interruption.asked, leads and self._time_is_up(), leads and self._checkpoint_due()
        )

    def _step(self, log: Log) -> None:
        begun = time.monotonic()
        where = self.position
        rate = self.schedule.rate(where.step, where.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        out = self.shared.loss_and_gradient(where.epoch, where.index, self.state)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip or math.inf))
        self._check_loss(out.total / out.predictions)
        if not math.isfinite(norm):
            raise DivergedError(self._diverged(f"the gradient's norm is {norm}"))
        self.optimizer.step()
        self._tried = (where.epoch, where.index, self.state)
        self.state = bptt.cut(out.state)
        where.index += 1
        where.step += 1
        if self.average:
            self.average.update(where.step)
        self.session.items += out.predictions
        self.session.stepping += time.monotonic() - begun
        loss = out.total / out.predictions
        self._shown = loss if math.isnan(self._shown) else 0.95 * self._shown + 0.05 * loss
        for mean in (self.recent, self.since_validation):
            mean.add(out.total, out.predictions)
        if where.step % self.training.log_every == 0:
            speed = round(self.session.speed, 1)
            figures = {"loss": self.recent.value, "rate": rate, "gradient_norm": norm, "per_second": speed}
            waiting = round(self.learner.waited / self.session.stepping, 4)
            log.write("train", **self._where(), **figures, waiting=waiting)
            self.recent = Mean()

    def _show(self, log: Log) -> None:
        """What the model has to show at this step, into the log and to the user."""
        if self._shows is None or not self.processes.leads:
            return
        with self.average.instead() if self.average else nullcontext(), undisturbed(self.device):
            texts = self._shows(self.position.step)
        if texts:
            log.write("sample", **self._where(), texts=texts)
            self.display.note(f"step {self.position.step:,} writes: {' '.join(texts[0].split())[:300]}")

    def _check_loss(self, loss: float) -> None:
        """Raise DivergedError for a loss that is no number, that its measure cannot express, or far above the first."""
        self.first = loss if math.isnan(self.first) else self.first
        if not math.isfinite(loss):
            raise DivergedError(self._diverged(f"the loss is {loss}"))
        if loss > FAR_ABOVE * max(abs(self.first), 1.0) or not math.isfinite(self.learner.measure.of(loss)):
            raise DivergedError(
                self._diverged(f"the loss is {loss:.3g}, at the first step it was {self.first:.3g}")
            )

    def _check_sound(self) -> None:
        """Raise DivergedError rather than save what the last step has spoilt: its batch is tried once more."""
        if self._tried is None:
            return
        self.model.eval()
        with torch.no_grad(), undisturbed(self.device):
            out = self.shared.loss(*self._tried)
        self._check_loss(out.total / out.predictions)

    def _diverged(self, what: str) -> str:
        kept = f"step {self.saved_step}" if self.saved_step else "the start"
        return (
            f"training diverged at step {self.position.step + 1}: {what}; begin anew with a --rate below "
            f"{self.settings.rate:g} or a smaller --clip ({self.run.last} holds the state of {kept})"
        )

    def _validation_due(self) -> bool:
        every = self.training.validate_every
        at_end = self.position.index == self.learner.epoch_steps
        return at_end or bool(every and self.position.step % every == 0)

    def _validate(self, log: Log, *, scheduled: bool) -> None:
        """Measure, keep the model if it is the best so far; what is scheduled counts for the rate and for the end."""
        self.processes.same_buffers(self.model)
        with self.average.instead() if self.average else nullcontext():
            with undisturbed(self.device), parallel.sharing(self.processes):
                score = self.learner.validate()
            better = score is not None and score.cost < self.best
            if score and better:
                self.best = score.cost
                self._save_best(score)
        if score is None:
            self._say("", scheduled=scheduled)
            return
        rate = self.optimizer.param_groups[0]["lr"]
        found = {
            "score": score.value,
            "rate": rate,
            "best": better,
            "metric": score.name,
            "higher": score.higher,
        }
        log.write("valid", **self._where(), **{**score.plain_figures, **found})
        own = score.name == self.learner.measure.name
        self._say(
            f"  {'valid' if own else score.name} {score.number}{' (best)' if better else ''}{self._remark(score)}",
            scheduled=scheduled,
        )
        if scheduled:
            self.schedule.observe(score.cost)
            self.streak.observe(score.cost)

    def _remark(self, score: Score) -> str:
        return f", {score.remark.at(self.position.step)}" if score.remark else ""

    def _say(self, valid: str, *, scheduled: bool) -> None:
        measure = self.learner.measure
        step = "" if self.training.max_steps else f"  step {self.position.step:,}"
        waiting = self._waiting(self.session.stepping, self.learner)
        self.display.note(
            f"{self._place()}{step}  {measure.name}: "
            f"train {measure.number(self.since_validation.value)}{valid}{waiting}  {duration(self.seconds)}"
        )
        if scheduled:
            self.since_validation = Mean()

    def _save_best(self, score: Score) -> None:
        if not self.processes.leads:
            return
        facts = {"score": score.to_json(), "step": self.position.step, "epoch": self.position.epoch}
        checkpoint.save(self.run.best, checkpoint.model_tensors(self.model), facts)

    def _end_epoch(self) -> None:
        self.position.epoch += 1
        self.position.index = 0
        self.state = self._begun()

    def _time_is_up(self) -> bool:
        return bool(self.training.minutes) and self.session.seconds >= 60 * self.training.minutes

    def _checkpoint_due(self) -> bool:
        steps, seconds = self.training.checkpoint_every, self.training.checkpoint_seconds
        by_steps = steps and self.position.step % steps == 0
        return bool(by_steps or (seconds and time.monotonic() - self.session.last_checkpoint >= seconds))

    def _where(self) -> dict[str, Any]:
        return {"step": self.position.step, "epoch": self.position.epoch, "seconds": round(self.seconds, 3)}

    def _facts(self) -> dict[str, Any]:
        return {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "epoch_steps": self.learner.epoch_steps,
            "measure": self.learner.measure.name,
            "items": self.learner.measure.items,
            **environment(),
        }

    def _glance(self) -> None:
        passed, share = self.session.seconds, self._share()
        left = passed * (1 - share) / share if share else None
        done = self.position.step / self.total_steps
        if self.training.minutes:
            done = max(done, min(1.0, passed / (60 * self.training.minutes)))
        speed = f"{self.session.speed:,.0f} {self.learner.measure.items}/s"
        self.display.show(Glance(done, self._place(), self.learner.measure.text(self._shown), speed, left))

    def _place(self) -> str:
        if self.training.max_steps:
            return f"step {self.position.step:,}/{self.total_steps:,}"
        return f"epoch {min(self.position.epoch, self.training.epochs)}/{self.training.epochs}"

    def _share(self) -> float:
        """The part of this session's work that is done, by steps or by the time limit, whichever ends first."""
        by_steps = (self.position.step - self.session.start_step) / max(
            1, self.total_steps - self.session.start_step
        )
        limit = 60 * self.training.minutes
        return min(1.0, max(by_steps, self.session.seconds / limit)) if limit else by_steps
