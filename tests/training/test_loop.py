"""The loop with a learner so small that every step can be worked out by hand."""

import json
import math
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from elman.config import UserError
from elman.metrics import perplexity
from elman.training import checkpoint
from elman.training.log import read_log
from elman.training.loop import Measure, StepLoss, Trainer
from elman.training.progress import Glance, Silent
from elman.training.run import Run, stage
from elman.training.score import Score
from elman.training.settings import OptimizerSettings, TrainingSettings


class Scale(nn.Module):
    """One number w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(4.0))


class Toy:
    """loss = w * value + noise * w, value given for each step; the state counts steps and remembers w."""

    def __init__(self, values: list[float], valid: list[float] | None = None, noise: float = 0.0) -> None:
        self.model = Scale()
        self.measure = Measure("perplexity", perplexity, "things")
        self.values, self.noise = values, noise
        self.waited = 0.0
        self.epoch_steps = len(values)
        self.valid = None if valid is None else iter(valid)
        self.states: list[Any] = []

    def initial_state(self) -> Any:
        return (torch.zeros(1), [torch.zeros(2)])

    def loss(self, epoch: int, index: int, state: Any) -> StepLoss:
        if torch.is_grad_enabled():
            self.states.append(state)
        noise = self.noise * torch.rand(())
        objective = self.model.w * self.values[index] + noise * self.model.w
        carried = (state[0] + 1, [state[1][0] + self.model.w])
        return StepLoss(objective, self.values[index] * 10, 10, carried)

    def validate(self) -> Score | None:
        if self.valid is None:
            return None
        loss = next(self.valid)
        return Score("perplexity", perplexity(loss), higher=False, figures={"loss": loss})


class Notes(Silent):
    """Keeps what is shown."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.glances: list[Glance] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def show(self, glance: Glance) -> None:
        self.glances.append(glance)


SGD = {"optimizer": "sgd", "rate": 0.1, "clip": 0.0}


def new_run(path: Path) -> Run:
    with stage(path, "toy", {}, {}, overwrite=False) as run:
        pass
    return run


def trainer(
    learner: Toy, run: Run, *, optimizer: dict[str, Any] | None = None, display: Any = None, **training: Any
) -> Trainer:
    settings = TrainingSettings(**({"epochs": 1, "checkpoint_seconds": 0.0, "log_every": 1} | training))
    return Trainer(learner, OptimizerSettings(**(optimizer or SGD)), settings, run, display or Silent())


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_log(run.log) if event["event"] == kind]


def facts(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["facts"])
        return found


def test_sgd_by_hand(tmp_path: Path) -> None:
    learner = Toy([1.0, 2.0, 3.0])
    assert trainer(learner, new_run(tmp_path / "run"), epochs=2).fit() == "finished"
    assert learner.model.w.item() == pytest.approx(4 - 0.1 * 2 * (1 + 2 + 3))


def test_clipping_by_the_global_norm(tmp_path: Path) -> None:
    learner = Toy([1.0, 5.0])
    run = new_run(tmp_path / "run")
    trainer(learner, run, optimizer=SGD | {"clip": 2.0}).fit()
    assert learner.model.w.item() == pytest.approx(4 - 0.1 * (1 + 2), abs=1e-5)
    assert [event["gradient_norm"] for event in events(run, "train")] == pytest.approx([1, 5])


def test_the_state_is_carried_cut_and_starts_anew_each_epoch(tmp_path: Path) -> None:
    learner = Toy([1.0, 1.0, 1.0])
    trainer(learner, new_run(tmp_path / "run"), epochs=2).fit()
    assert [state[0].item() for state in learner.states] == [0, 1, 2, 0, 1, 2]
    assert not any(state[1][0].requires_grad for state in learner.states)
    assert learner.states[2][1][0].tolist() == pytest.approx([4 + 3.9] * 2)


def test_the_rate_follows_the_schedule(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    optimizer = SGD | {"schedule": "after", "divide_after": 1, "divide_by": 10.0}
    learner = Toy([1.0, 1.0])
    trainer(learner, run, optimizer=optimizer, epochs=3).fit()
    assert [event["rate"] for event in events(run, "train")] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert learner.model.w.item() == pytest.approx(4 - 0.222)


def test_plateau_listens_to_validation(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    optimizer = SGD | {"schedule": "plateau", "divide_by": 2.0}
    trainer(Toy([1.0], valid=[3.0, 4.0, 2.0, 5.0]), run, optimizer=optimizer, epochs=4).fit()
    assert [event["rate"] for event in events(run, "train")] == pytest.approx([0.1, 0.1, 0.05, 0.05])
    assert [event["best"] for event in events(run, "valid")] == [True, False, True, False]


def test_best_and_last_are_kept(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    trainer(Toy([1.0], valid=[3.0, 2.0, 5.0]), run, epochs=3).fit()
    best = facts(run.best)
    assert (best["step"], best["epoch"]) == (2, 2)
    assert best["score"] == {
        "name": "perplexity",
        "value": pytest.approx(math.exp(2)),
        "higher": False,
        "interval": None,
        "figures": {"loss": 2.0},
    }
    assert facts(run.last)["position"]["step"] == 3
    with safe_open(run.best, framework="pt") as best, safe_open(run.last, framework="pt") as last:
        assert best.get_tensor("w").item() == pytest.approx(3.8)
        assert last.get_tensor("model.w").item() == pytest.approx(3.7)


def test_validation_within_an_epoch(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    trainer(Toy([1.0] * 5, valid=[5.0, 4.0, 3.0, 2.0, 1.0, 0.5]), run, epochs=2, validate_every=2).fit()
    assert [event["step"] for event in events(run, "valid")] == [2, 4, 5, 6, 8, 10]


def test_a_number_of_steps_ends_it_and_the_schedule(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    optimizer = SGD | {"schedule": "cosine"}
    learner = Toy([1.0, 1.0, 1.0], valid=[2.0, 1.0])
    assert trainer(learner, run, optimizer=optimizer, epochs=9, max_steps=4).fit() == "finished"
    assert [event["rate"] for event in events(run, "train")] == pytest.approx(
        [0.1, 0.0853553, 0.05, 0.0146447], abs=1e-6
    )
    assert [event["step"] for event in events(run, "valid")] == [3, 4]
    assert facts(run.last)["position"]["step"] == 4


def test_without_validation_data_there_is_no_best(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    trainer(Toy([1.0]), run).fit()
    assert not run.best.exists()
    assert run.last.exists()


def test_the_log_says_what_happened(tmp_path: Path) -> None:
    run, display = new_run(tmp_path / "run"), Notes()
    trainer(Toy([1.0, 3.0, 2.0, 4.0], valid=[1.5]), run, display=display, log_every=2).fit()
    log = read_log(run.log)
    assert [event["event"] for event in log] == ["start", "train", "train", "valid", "stop"]
    assert [event["loss"] for event in log[1:4]] == [2.0, 3.0, 1.5]
    assert log[0]["measure"] == "perplexity"
    assert log[0]["epoch_steps"] == 4
    assert log[0]["parameters"] == 1
    assert log[-1]["reason"] == "finished"
    assert [event["seconds"] for event in log] == sorted(event["seconds"] for event in log)
    assert "perplexity: train 12.18  valid 4.482 (best)" in display.lines[0]
    assert display.glances[0].figures == "loss 1.000  perplexity 2.718"
    assert display.glances[1].figures == "loss 1.100  perplexity 3.004"
    assert [glance.done for glance in display.glances] == [0.25, 0.5, 0.75, 1.0]


def test_a_time_limit_ends_the_training_and_it_can_go_on(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    first = Toy([1.0] * 4, valid=[2.0] * 9)
    display = Notes()
    assert trainer(first, run, display=display, minutes=1e-9).fit() == "time"
    assert (display.glances[-1].done, display.glances[-1].left) == (1, 0)
    assert facts(run.last)["position"]["step"] == 1
    assert [event["step"] for event in events(run, "valid")] == [1]
    second = Toy([1.0] * 4, valid=[2.0] * 9)
    again = trainer(second, run)
    again.restore()
    assert again.fit() == "finished"
    assert second.model.w.item() == pytest.approx(3.6)
    assert read_log(run.log)[-1]["step"] == 4


def test_ctrl_c_saves_after_the_step_and_a_second_one_ends_at_once(tmp_path: Path) -> None:
    class Interrupted(Toy):
        def loss(self, epoch: int, index: int, state: Any) -> StepLoss:
            for _ in range({1: 1, 3: 2}.get(index, 0) if torch.is_grad_enabled() else 0):
                signal.raise_signal(signal.SIGINT)
            return super().loss(epoch, index, state)

    run = new_run(tmp_path / "run")
    before = signal.getsignal(signal.SIGINT)
    assert trainer(Interrupted([1.0] * 5), run).fit() == "interrupted"
    assert facts(run.last)["position"]["step"] == 2
    assert signal.getsignal(signal.SIGINT) is before
    again = trainer(Interrupted([1.0] * 5), run)
    again.restore()
    with pytest.raises(KeyboardInterrupt):
        again.fit()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_it_and_the_sound_checkpoint_stays(tmp_path: Path, bad: float) -> None:
    run = new_run(tmp_path / "run")
    learner = Toy([1.0, 1.0, bad, 1.0])
    with pytest.raises(
        UserError,
        match=r"diverged at step 3: the loss is (nan|inf); begin anew with a --rate below 0.1 or a smaller --clip",
    ):
        trainer(learner, run, checkpoint_every=1).fit()
    assert facts(run.last)["position"]["step"] == 2
    assert math.isfinite(learner.model.w.item())


def interrupted_at(step: int, run: Run, optimizer: dict[str, Any]) -> None:
    """Train up to a step, checkpoint, and go."""

    class Stopping(Toy):
        def loss(self, epoch: int, index: int, state: Any) -> StepLoss:
            out = super().loss(epoch, index, state)
            if torch.is_grad_enabled() and (epoch - 1) * self.epoch_steps + index + 1 == step:
                signal.raise_signal(signal.SIGTERM)
            return out

    learner = Stopping([1.0, 2.0, 3.0], noise=1.0)
    torch.manual_seed(3)
    assert trainer(learner, run, optimizer=optimizer, epochs=3).fit() == "interrupted"


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        SGD | {"momentum": 0.9},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"optimizer": "adamw", "schedule": "cosine", "warmup": 2},
        SGD | {"weight_average": 0.9},
    ],
)
def test_a_resumed_training_ends_with_the_same_bits(
    tmp_path: Path, step: int, optimizer: dict[str, Any]
) -> None:
    whole = Toy([1.0, 2.0, 3.0], noise=1.0)
    torch.manual_seed(3)
    expected = new_run(tmp_path / "whole")
    trainer(whole, expected, optimizer=optimizer, epochs=3).fit()
    run = new_run(tmp_path / "run")
    interrupted_at(step, run, optimizer)
    torch.manual_seed(99)
    learner = Toy([1.0, 2.0, 3.0], noise=1.0)
    again = trainer(learner, run, optimizer=optimizer, epochs=3)
    again.restore()
    again.fit()
    assert learner.model.w.item() == whole.model.w.item()
    kept, right = (checkpoint.load(of.last)[0] for of in (run, expected))
    assert kept.keys() == right.keys()
    assert all(torch.equal(kept[name], right[name]) for name in right if not name.startswith("random."))
    steps = [event["step"] for event in events(run, "train")]
    assert steps == list(range(1, 10))


def test_restoring_another_state_structure_is_an_error(tmp_path: Path) -> None:
    class Wider(Toy):
        def initial_state(self) -> tuple[Tensor, list[Tensor]]:
            return (torch.zeros(1), [torch.zeros(3)])

    run = new_run(tmp_path / "run")
    trainer(Toy([1.0]), run).fit()
    with pytest.raises(UserError, match=r"last\.safetensors is damaged"):
        trainer(Wider([1.0]), run).restore()


class Rated(Toy):
    """Measured by something of which more is better, and whose measuring draws random numbers."""

    def validate(self) -> Score | None:
        value = super().validate()
        torch.rand(3)
        random.random()
        return None if value is None else Score("macro F1", value.figures["loss"], higher=True)


def test_the_best_the_plateau_and_the_end_follow_the_metrics_direction(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    optimizer = SGD | {"schedule": "plateau", "divide_by": 2.0}
    learner = Rated([1.0], valid=[0.3, 0.5, 0.4, 0.2, 0.9])
    ended = trainer(learner, run, optimizer=optimizer, epochs=9, stop_after=2)
    assert ended.fit() == "no better"
    assert [event["best"] for event in events(run, "valid")] == [True, True, False, False]
    assert [event["rate"] for event in events(run, "train")] == pytest.approx([0.1, 0.1, 0.1, 0.05])
    assert facts(run.best)["score"]["value"] == 0.5
    again = trainer(Rated([1.0], valid=[0.9]), run, optimizer=optimizer, epochs=9, stop_after=2)
    again.restore()
    assert again.finished
    assert again.best == -0.5


def test_a_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    trainer(Rated([1.0], valid=[math.nan, 0.1, math.nan]), run, epochs=3).fit()
    assert [event["best"] for event in events(run, "valid")] == [False, True, False]


def test_validation_moves_no_random_generator(tmp_path: Path) -> None:
    ends = []
    for number, kind in enumerate((Toy, Rated)):
        learner = kind([1.0, 2.0], valid=[1.0] * 4, noise=1.0)
        torch.manual_seed(3)
        random.seed(3)
        trainer(learner, new_run(tmp_path / str(number)), epochs=2, validate_every=1).fit()
        ends.append((learner.model.w.item(), random.random(), torch.rand(()).item()))
    assert ends[0] == ends[1]


def test_what_is_saved_knows_the_best_that_was_found_at_the_time_limit(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    trainer(Rated([1.0] * 4, valid=[0.7]), run, minutes=1e-9).fit()
    again = trainer(Rated([1.0] * 4, valid=[0.6, 0.8]), run, stop_after=1)
    again.restore()
    assert again.best == -0.7
    assert again.streak.waited == 0
    again.fit()
    assert facts(run.best)["score"]["value"] == 0.7


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=15), st.floats(0.05, 0.999))
def test_the_average_is_measured_and_kept_and_the_weights_go_on(values: list[float], decay: float) -> None:
    """w_n and a_n worked out by hand; the weights that are trained do not see the average."""
    weights, averages = [4.0], [4.0]
    for n, value in enumerate(values, start=1):
        weights.append(weights[-1] - 0.1 * value)
        keep = min(decay, (1 + n) / (10 + n))
        averages.append(keep * averages[-1] + (1 - keep) * weights[-1])

    class Watching(Toy):
        def validate(self) -> Score:
            seen.append(self.model.w.item())
            return Score("perplexity", 9.0 - len(seen), higher=False, figures={"loss": 1.0})

    for validated in (True, False):
        seen: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            run = new_run(Path(folder) / "run")
            learner = Watching(values) if validated else Toy(values)
            trainer(learner, run, optimizer=SGD | {"weight_average": decay}, validate_every=1).fit()
            assert learner.model.w.item() == pytest.approx(weights[-1], abs=1e-5)
            found = Scale()
            checkpoint.load_weights(found, run, "best")
            assert found.w.item() == pytest.approx(averages[-1], abs=1e-5)
        assert seen == pytest.approx(averages[1:] if validated else [], abs=1e-5)
