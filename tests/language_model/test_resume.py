"""Going on after a break, of any kind, ends with the same bits as without the break."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from command import begin, elman, process, verse

FLAGS = [
    *("--hidden", 16, "--layers", 2, "--dropout", 0.3, "--batch", 4, "--steps", 8, "--threads", 1),
    *(
        "--epochs",
        3,
        "--schedule",
        "plateau",
        "--rate",
        0.05,
        "--validate-every",
        20,
        "--checkpoint-every",
        3,
        "--log-every",
        5,
    ),
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(verse(40))
    return path


def train(text: Path, run: Path, *more: object) -> list[object]:
    return ["train", "language-model", "--data", text, "--run", run, *FLAGS, *more]


def assert_same(a: Path, b: Path) -> None:
    """Model, optimizer, carried state and random state, bit for bit; and the same log but for times."""
    for name in ("last", "best"):
        first, second = load_file(a / f"{name}.safetensors"), load_file(b / f"{name}.safetensors")
        assert first.keys() == second.keys()
        for key, tensor in first.items():
            assert torch.equal(tensor, second[key]), f"{name}: {key}"
    logs = [steps((run / "log.jsonl").read_text()) for run in (a, b)]
    assert logs[0] == logs[1]


def steps(log: str) -> list[tuple[Any, ...]]:
    events = [json.loads(line) for line in log.splitlines()]
    return [(e["event"], e["step"], e["loss"], e["rate"]) for e in events if e["event"] in {"train", "valid"}]


def wait_for_step(child: subprocess.Popen[str], run: Path, step: int) -> None:
    """Wait until the log has come so far."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and child.poll() is None:
        log = run / "log.jsonl"
        reached = (
            max(
                [
                    int(line.split('"step": ')[1].split(",")[0])
                    for line in log.read_text().splitlines()
                    if line.endswith("}")
                ],
                default=0,
            )
            if log.exists()
            else 0
        )
        if reached >= step:
            return
        time.sleep(0.005)
    pytest.fail(f"the training did not come to step {step}: {child.communicate()}")


@pytest.mark.parametrize("engine", ["torch", "elman"])
def test_killed_and_resumed_ends_with_the_same_bits(tmp_path: Path, text: Path, engine: str) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert process(*train(text, whole, "--engine", engine)).code == 0
    child = begin(*train(text, broken, "--engine", engine))
    wait_for_step(child, broken, 30)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert elman("generate", broken, "--length", 3).code == 0
    done = process("train", "language-model", "--resume", broken)
    assert done.code == 0, done.err
    assert "continuing" in done.err
    assert_same(whole, broken)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_by_hand_saves_says_how_to_go_on_and_goes_on(
    tmp_path: Path, text: Path, number: signal.Signals
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    quick = ["--engine", "torch"]
    assert elman(*train(text, whole, *quick)).code == 0
    child = begin(*train(text, broken, *quick))
    wait_for_step(child, broken, 15)
    os.kill(child.pid, number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert f"all saved; go on with: elman train language-model --resume {broken}" in err
    assert "Traceback" not in err
    assert elman("train", "language-model", "--run", broken, "--resume").code == 0
    assert_same(whole, broken)


def test_a_time_limit_then_more_time(tmp_path: Path, text: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = ["--engine", "torch", "--schedule", "constant"]
    assert elman(*train(text, whole, *flags)).code == 0
    done = elman(*train(text, broken, *flags, "--minutes", 1e-9))
    assert done.code == 0
    assert f"go on with: elman train language-model --resume {broken}" in done.err
    assert elman("train", "language-model", "--resume", broken, "--minutes", 0).code == 0
    last = [load_file(run / "last.safetensors") for run in (whole, broken)]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_more_epochs_go_on_from_the_end(tmp_path: Path, text: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert elman(*train(text, whole, "--engine", "torch")).code == 0
    assert elman(*train(text, broken, "--engine", "torch", "--epochs", 1)).code == 0
    for name in ("report.html", "learning_curve.svg"):
        (broken / name).unlink()
    finished = elman("train", "language-model", "--resume", broken)
    assert finished.code == 0
    assert all((broken / name).stat().st_size > 1000 for name in ("report.html", "learning_curve.svg"))
    assert "has done its 1 epochs; for more, give --epochs a larger number" in finished.err
    assert elman("train", "language-model", "--resume", broken, "--epochs", 3).code == 0
    assert_same(whole, broken)


def test_what_cannot_change_on_the_way(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    assert elman(*train(text, run, "--engine", "torch", "--epochs", 1)).code == 0
    done = elman("train", "language-model", "--resume", run, "--epochs", 2, "--hidden", 17)
    assert done.code == 2
    assert "--hidden cannot change while a run is continued" in done.err
    assert elman("train", "language-model", "--resume", run, "--epochs", 2, "--hidden", 16).code == 0


def test_changed_data_are_noticed(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    assert elman(*train(text, run, "--engine", "torch", "--epochs", 1)).code == 0
    text.write_text(text.read_text() + "one more line\n")
    done = elman("train", "language-model", "--resume", run, "--epochs", 2)
    assert done.code == 2
    assert "the data are not those that" in done.err


def test_another_thread_count_or_torch_is_said(tmp_path: Path, text: Path) -> None:
    from safetensors import safe_open

    from elman.training import checkpoint

    run = tmp_path / "run"
    assert elman(*train(text, run, "--engine", "torch", "--epochs", 1)).code == 0
    tensors, facts = checkpoint.load(run / "last.safetensors")
    facts["environment"]["torch"] = "1.0"
    checkpoint.save(run / "last.safetensors", tensors, facts)
    done = elman("train", "language-model", "--resume", run, "--epochs", 2, "--threads", 2)
    assert done.code == 0
    assert "warning: the run was begun with torch 1.0, here it is" in done.err
    assert "warning: the run was begun with threads 1, here it is 2" in done.err
    with safe_open(run / "last.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["facts"])["environment"]["threads"] == 2


def test_the_thread_count_is_taken_up_again(tmp_path: Path, text: Path) -> None:
    run = tmp_path / "run"
    flags = [flag for flag in FLAGS if flag not in {"--threads", 1}]
    torch.set_num_threads(1)
    words = [
        "train",
        "language-model",
        "--data",
        text,
        "--run",
        run,
        *flags,
        "--engine",
        "torch",
        "--epochs",
        1,
    ]
    assert elman(*words).code == 0
    torch.set_num_threads(2)
    done = elman("train", "language-model", "--resume", run, "--epochs", 2)
    assert done.code == 0
    assert "warning" not in done.err
    assert torch.get_num_threads() == 1


def test_only_one_process_at_a_time(tmp_path: Path, text: Path) -> None:
    from elman.training.run import Run

    run = tmp_path / "run"
    assert elman(*train(text, run, "--engine", "torch", "--epochs", 1)).code == 0
    with Run.open(run).hold():
        done = elman("train", "language-model", "--resume", run, "--epochs", 2)
    assert done.code == 2
    assert "another process is training in" in done.err
