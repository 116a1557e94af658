"""Whole inputs answered together against each alone; counts over processes."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elman.serve.batcher import FaultError, FullError, GoneError, LateError
from elman.serve.metrics import BOUNDS, Board
from elman.serve.whole import Asked, Whole


def squares(inputs: list[int]) -> list[int]:
    if 13 in inputs:
        raise ValueError("13 brings bad luck")
    return [x * x for x in inputs]


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_drawn_requests_are_each_answered_once_and_right(seed: int, widest: int) -> None:
    draw, now = np.random.default_rng(seed), [0.0]
    whole = Whole(squares, waiting=12, widest=widest, clock=lambda: now[0])
    asked: list[tuple[Asked, list]] = []
    for _ in range(80):
        act = draw.random()
        if act < 0.4:
            told: list = []
            one = Asked(
                draw.integers(0, 15, draw.integers(1, 7)).tolist(),
                lambda answers, error, told=told: told.append((answers, error)),
                now[0] + draw.choice([1, 2, np.inf]),
            )
            try:
                whole.submit(one)
                asked.append((one, told))
            except FullError:
                assert whole.waiting + len(one.inputs) > 12
        elif act < 0.8:
            waiting = sum(len(a.inputs) - a.taken for a, _ in asked if not a.over and a.deadline > now[0])
            assert whole.step() == min(waiting, widest)
        elif act < 0.9 and asked:
            whole.drop(asked[draw.integers(len(asked))][0])
        else:
            now[0] += 0.5
        assert whole.waiting == sum(len(a.inputs) for a, _ in asked if not a.over) <= 12
    while whole.step():
        pass
    assert whole.waiting == 0
    for one, told in asked:
        assert len(told) <= 1
        for answers, error in told:
            if error is None:
                assert answers == squares(one.inputs)
            elif isinstance(error, FaultError):
                assert 13 in one.inputs
            else:
                assert isinstance(error, LateError) and one.deadline <= now[0]


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=9), st.integers(1, 5))
def test_requests_apart_have_turns(sizes: list[int], widest: int) -> None:
    """Each step is of one request; all of them have had k turns before one has its next but one."""
    seen: list[set[int]] = []

    def own(inputs: list[int]) -> list[int]:
        seen.append(set(inputs))
        return inputs

    whole, answers = Whole(own, waiting=1000, widest=widest, apart=True), {}
    for k, size in enumerate(sizes):
        whole.submit(Asked([k] * size, lambda found, error, k=k: answers.update({k: (found, error)})))
    turns = dict.fromkeys(range(len(sizes)), 0)
    while whole.step():
        (k,) = seen[-1]
        turns[k] += 1
        left = [turns[i] for i in turns if i not in answers]
        assert not left or turns[k] <= min(left) + 1
    assert answers == {k: ([k] * size, None) for k, size in enumerate(sizes)}
    assert turns == {k: -(-size // widest) for k, size in enumerate(sizes)}


def test_nothing_after_the_end() -> None:
    whole = Whole(squares)
    whole.start()
    told: list = []
    whole.submit(Asked([3], lambda answers, error: told.append(answers)))
    whole.stop()
    assert told == [[9]]
    with pytest.raises(GoneError):
        whole.submit(Asked([3], print))


def test_the_counts_of_all_processes(tmp_path: Path) -> None:
    boards = [Board(["a", "b"], tmp_path / "counts", process=i, processes=3) for i in range(3)]
    seconds = np.random.default_rng(0).exponential(0.2, 500)
    for i, value in enumerate(seconds):
        boards[i % 3].took("message_seconds", 'model="b"', value)
    boards[1].put('sessions{model="a"}', 4)
    boards[2].put('sessions{model="a"}', 5)
    boards[0].answered(200)
    boards[2].answered(299)  # no code that there is
    lines = dict(line.rsplit(" ", 1) for line in boards[1].text().split("\n") if line and line[0] != "#")
    for bound in BOUNDS:
        assert (
            int(lines[f'elman_message_seconds_bucket{{model="b",le="{bound:g}"}}'])
            == (seconds <= bound).sum()
        )
    assert int(lines['elman_message_seconds_bucket{model="b",le="+Inf"}']) == 500
    assert int(lines['elman_message_seconds_count{model="b"}']) == 500
    assert float(lines['elman_message_seconds_sum{model="b"}']) == pytest.approx(seconds.sum())
    assert lines['elman_sessions{model="a"}'] == "9"
    assert (lines['elman_requests_total{code="200"}'], lines['elman_requests_total{code="500"}']) == (
        "1",
        "1",
    )
    assert not any("message_seconds" in name and 'model="a"' in name and lines[name] != "0" for name in lines)
    # A process that is started again goes on counting, and begins with no sessions.
    again = Board(["a", "b"], tmp_path / "counts", process=2, processes=3)
    again.answered(200)
    assert 'elman_requests_total{code="200"} 2' in again.text()
    assert 'elman_sessions{model="a"} 4' in again.text()
