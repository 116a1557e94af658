"""Batches made ahead are the same batches; slow ones are made while something else is done; errors are not lost."""

import random
import time

import pytest

from elman.training.ahead import Ahead


@pytest.mark.parametrize("seconds", [0.0, 0.003])
def test_each_batch_is_the_one_that_is_asked_for(seconds: float) -> None:
    def make(epoch: int, index: int) -> tuple[int, int]:
        time.sleep(seconds)
        return epoch, index

    ahead, draw = Ahead(make, 4), random.Random(0)
    in_order = [(epoch, index) for epoch in (1, 2) for index in range(4)]
    anywhere = [(draw.randint(1, 3), draw.randrange(4)) for _ in range(20)]
    for place in in_order + anywhere:
        assert ahead(*place) == place


def test_slow_batches_are_made_while_the_step_runs() -> None:
    begun = []

    def make(epoch: int, index: int) -> int:
        begun.append((epoch, index))
        time.sleep(0.02)
        return index

    ahead = Ahead(make, 3)
    ahead(1, 0)
    first = ahead.waited
    for place in ((1, 1), (1, 2), (2, 0)):
        time.sleep(0.1)
        assert begun[-1] == place
        ahead(*place)
    assert first >= 0.02
    assert ahead.waited < first + 0.04


def test_fast_batches_need_no_thread() -> None:
    made = []
    ahead = Ahead(lambda epoch, index: made.append(index), 3)
    ahead(1, 0)
    time.sleep(0.01)
    assert made == [0]


def test_an_error_comes_when_its_batch_is_asked_for() -> None:
    def make(epoch: int, index: int) -> int:
        time.sleep(0.003)
        return 1 // (2 - index)

    ahead = Ahead(make, 5)
    assert (ahead(1, 0), ahead(1, 1)) == (0, 1)
    with pytest.raises(ZeroDivisionError):
        ahead(1, 2)
    assert ahead(1, 3) == -1
