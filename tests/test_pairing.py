"""The timing harness: it refuses wrong answers, pairs its rounds, and says what it saw."""

import itertools
import json
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from benchmarks import __main__ as command
from benchmarks.pairing import AnswersDifferError, Case, Effort, Result, Side, compare, measure, table

GLANCE = Effort(seconds=0.0, rounds=4, most_rounds=4)


def answering(**answers: list[float]) -> Callable[[], dict[str, Tensor]]:
    tensors = {name: torch.tensor(values) for name, values in answers.items()}
    return lambda: tensors


@pytest.mark.parametrize(
    ("ours", "reason"),
    [
        ({"y": [1.0, 2.1], "grad_x": [3.0]}, "y"),
        ({"y": [1.0, 2.0], "grad_x": [3.1]}, "grad_x"),
        ({"y": [1.0, float("nan")], "grad_x": [3.0]}, "y"),
        ({"y": [1.0, 2.0, 3.0], "grad_x": [3.0]}, "shape"),
        ({"y": [1.0, 2.0]}, "grad_x"),
    ],
)
def test_refuses_answers_that_differ(ours: dict[str, list[float]], reason: str) -> None:
    case = Case("c", Side("a", answering(**ours)), Side("b", answering(y=[1.0, 2.0], grad_x=[3.0])))
    with pytest.raises(AnswersDifferError, match=reason):
        compare(case, GLANCE)


def test_command_writes_nothing_when_it_refuses(tmp_path, monkeypatch, capsys) -> None:
    wrong = Case("c", Side("a", answering(y=[1.0])), Side("b", answering(y=[2.0])))
    monkeypatch.setattr(command.layers, "cases", lambda: iter([wrong]))
    assert command.main(["layers", "--out", str(tmp_path)]) == 1
    assert "refused" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_rounds_swap_their_order() -> None:
    seen: list[str] = []

    def side(name: str) -> Side:
        return Side(name, lambda: seen.append(name) or {})

    measure(side("a"), side("b"), GLANCE)
    timed = "".join(seen[8:])
    assert timed == "abbaabba"


def test_pauses_between_sides_with_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr("benchmarks.pairing.time.sleep", lambda seconds: seen.append("-"))
    theirs = Side("b", lambda: seen.append("b") or {}, own_threads=True)
    measure(Side("a", lambda: seen.append("a") or {}), theirs, GLANCE)
    assert "".join(seen[8:]) == "-aa-bb-bb-aa-aa-bb-bb-aa"


def test_repeats_while_the_spread_is_large_and_stops() -> None:
    waits = itertools.cycle([0.0, 0.004, 0.001])
    restless = Side("a", lambda: time.sleep(next(waits)) or {})
    steady = Side("b", lambda: time.sleep(0.001) or {})
    ratios = measure(restless, steady, Effort(seconds=0.0, rounds=3, most_rounds=9, spread=0.01))
    assert len(ratios.ours) == len(ratios.theirs) == 9


def test_a_slower_side_is_seen_and_the_bar_is_judged() -> None:
    slow = Side("slow", lambda: time.sleep(0.004) or {})
    fast = Side("fast", lambda: time.sleep(0.001) or {})
    result = compare(Case("c", slow, fast, bar=0.9), GLANCE)
    assert result.speedup < 0.7
    assert not result.met
    assert "missed" in table([result])


def test_command_writes_json_and_table(tmp_path, monkeypatch) -> None:
    same = answering(y=[1.0])
    monkeypatch.setattr(command.layers, "cases", lambda: iter([Case("c", Side("a", same), Side("b", same))]))
    assert command.main(["layers", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "layers.json").read_text())
    assert record["machine"]["threads"] == 1
    assert record["results"][0].keys() == set(Result.__dataclass_fields__)
    assert "| c | a |" in (tmp_path / "layers.md").read_text()
