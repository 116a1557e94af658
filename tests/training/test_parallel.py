"""Several processes train as one does: the same parameters, another number of them at a resume, and one that dies."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from elman.config import UserError
from elman.training import parallel
from elman.training.parallel import Processes, each, stream_axes
from tests.command import SOURCE, verse
from tests.tagging import names

ROOT = Path(__file__).parents[2]


class Among(Processes):
    """A process whose words to the others are kept, to be said by the others."""

    def __init__(self, count: int, number: int, said: dict[int, Any]) -> None:
        super().__init__(count, number)
        self.said = said

    def all_of(self, array: Any) -> list[Any]:
        self.said[self.number] = array
        return [self.said.get(number, array) for number in range(self.count)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_rows_are_dealt_to_one_process_each(count: int) -> None:
    for rows in range(12):
        dealt = np.concatenate([Processes(count, number).own(rows) for number in range(count)])
        assert sorted(dealt.tolist()) == list(range(rows))


@pytest.mark.parametrize("count", [2, 3])
def test_streams_are_gathered_as_they_were_dealt(count: int) -> None:
    state = (torch.rand(2, 7, 3), [torch.rand(7, 4), torch.tensor(5.0)])
    leaves = [state[0], *state[1]]
    axes = stream_axes(leaves, [torch.rand(2, 8, 3), torch.rand(8, 4), torch.tensor(5.0)])
    assert axes == [1, 0, None]
    own = [Processes(count, number).dealt(state, axes) for number in range(count)]
    for place, whole in enumerate(leaves):
        said = {n: (one[0], *one[1])[place].numpy() for n, one in enumerate(own)}
        first = Among(count, 0, said)
        (found,) = first.gathered([torch.from_numpy(said[0])], [axes[place]])
        assert torch.equal(found, whole)


def test_too_few_streams_are_refused() -> None:
    with pytest.raises(UserError, match="2 streams cannot be shared by 3 processes: give a larger --batch"):
        Processes(3, 0).dealt((torch.rand(1, 2, 3),), [1])


def test_answers_come_in_the_order_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = list(range(7))

    def work(piece: int) -> Any:
        return np.full((piece, 2), piece, dtype=np.float32) if piece % 2 else np.array(b"word"[:piece])

    alone, said = each(pieces, work), {}
    for number in (1, 2, 0):
        with parallel.sharing(Among(3, number, said)):
            found = each(pieces, work)
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(alone, found, strict=True))
    assert parallel.sharers() == 1


def test_a_place_among_the_processes_that_makes_no_sense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_HERE", [])
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="RANK 3 is not one of 2 processes"):
        parallel.here()


def test_no_other_file_speaks_of_processes() -> None:
    speaks = re.compile(
        r"torch\.distributed|from torch import distributed|WORLD_SIZE|LOCAL_RANK|init_process_group"
    )
    found = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "src/elman").rglob("*.py")
        if speaks.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["src/elman/training/parallel.py"]


# As a user starts them

EVERY = ["--no-baselines", "--threads", "1", "--max-steps", "50", "--validate-every", "20"]
LANGUAGE = ["--data", "a.txt", "--hidden", "16", "--layers", "2", "--batch", "7", "--steps", "8"]
STILL = ["--dropout", "0", "--word-dropout", "0"]
TAGS = ["--data", "a.txt", "--hidden", "8", "--embedding", "8", "--letters", "0", "--batch", "7", *STILL]
MOODS = ["--data", "a.tsv", "--hidden", "8", "--min-count", "1", "--batch", "7", *STILL]


def start(count: int, folder: Path, *arguments: object, restarts: int = 0) -> subprocess.Popen[str]:
    port = random.SystemRandom().randrange(20000, 60000)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--master-addr", "127.0.0.1", "--master-port"]
    words = [*torchrun, port, "--nproc-per-node", count, "--max-restarts", restarts, "-m", "--", "elman"]
    environment = os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*map(str, words), *map(str, arguments)],
        cwd=folder,
        env=environment,
        text=True,
        stdout=pipe,
        stderr=pipe,
    )


def trained(count: int, folder: Path, *arguments: object) -> str:
    process = start(count, folder, *arguments)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    return err


def moods(path: Path) -> None:
    draw = random.Random(0)
    rows = [(draw.choice(["joy", "anger"]), draw.randint(0, 6)) for _ in range(120)]
    path.write_text("".join(f"{'so ' * n}{mood}ful it is\t{mood}\n" for mood, n in rows))


def differences(one: Path, other: Path) -> tuple[float, list[str]]:
    """The relative difference of all parameters as one vector; and the tensors with other bits."""
    a, b = (load_file(path / "last.safetensors") for path in (one, other))
    assert a.keys() == b.keys()
    own = [name for name in a if name.startswith("model.")]
    x, y = (torch.cat([tensors[name].double().flatten() for name in own]) for tensors in (a, b))
    return float((x - y).norm() / x.norm()), [name for name in a if not torch.equal(a[name], b[name])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "flags"), [("language-model", LANGUAGE), ("tagging", TAGS), ("classification", MOODS)]
)
def test_two_processes_end_where_one_does(task: str, flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(verse(200))
    moods(tmp_path / "a.tsv")
    if task == "tagging":
        names.write(tmp_path / "a.txt", 80, 0)
    for count, run in ((1, "one"), (2, "two")):
        trained(count, tmp_path, "train", task, *flags, *EVERY, "--run", run)
    away, _ = differences(tmp_path / "one", tmp_path / "two")
    assert away < 1e-6
    accounts, scores = (
        [json.loads((tmp_path / run / name).read_text()) for run in ("one", "two")]
        for name in ("run.json", "scores.json")
    )
    assert accounts[0]["account"] == accounts[1]["account"]
    assert scores[0]["test"]["value"] == pytest.approx(scores[1]["test"]["value"], rel=1e-5)
    assert (tmp_path / "two" / "report.html").is_file()


@pytest.mark.slow
def test_the_number_of_processes_may_change_at_a_resume(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(verse(200))
    command = ["train", "language-model", *LANGUAGE, *EVERY]
    trained(1, tmp_path, *command, "--run", "whole")
    for first, then in ((2, 1), (1, 2)):
        run = f"{first}-{then}"
        trained(first, tmp_path, *command, "--run", run, "--max-steps", 23)
        said = trained(then, tmp_path, "train", "language-model", "--resume", run, "--max-steps", 50)
        assert f"the run was begun with processes {first}, here it is {then}" in said
        away, _ = differences(tmp_path / "whole", tmp_path / run)
        assert away < 1e-6


@pytest.mark.slow
def test_a_process_that_is_killed_is_started_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(verse(400))
    command = ["train", "language-model", *LANGUAGE, "--dropout", "0.2", *EVERY, "--checkpoint-every", "20"]
    command += ["--max-steps", "600", "--epochs", "99"]
    trained(2, tmp_path, *command, "--run", "whole")
    process = start(2, tmp_path, *command, "--run", "killed", restarts=3)
    killed = 0
    while process.poll() is None and killed < 2:
        log = tmp_path / "killed" / "log.jsonl"
        steps = re.findall(r'"step": (\d+)', log.read_text()) if log.is_file() else []
        if steps and int(steps[-1]) > 100 * (killed + 1):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[killed % len(children)]), signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert killed == 2
    assert "continuing killed at step" in err
    away, different = differences(tmp_path / "whole", tmp_path / "killed")
    assert away == 0
    assert different == []
