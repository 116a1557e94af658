"""Batches of like lengths: each item once an epoch, always as many batches, within the budget, pure in the epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.bucketing import Buckets

lengths = st.lists(st.integers(0, 60), min_size=1, max_size=80)


@given(lengths, st.integers(1, 9), st.integers(0, 200), st.integers(0, 3), st.booleans())
def test_an_epoch(lengths: list[int], most: int, budget: int, seed: int, alike: bool) -> None:
    buckets = Buckets(lengths, budget=budget, most=most, seed=seed, alike=alike)
    shapes = []
    for epoch in (1, 2):
        batches = [buckets(epoch, index) for index in range(len(buckets))]
        assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
        assert max(map(len, batches)) <= most
        if alike and budget:
            assert all(len(b) == 1 or len(b) * max(lengths[i] for i in b) <= budget for b in batches)
        shapes.append(sorted((len(b), max(lengths[i] for i in b)) for b in batches))
    if alike:
        assert shapes[0] == shapes[1]


@given(lengths, st.integers(0, 3))
def test_a_batch_depends_on_seed_epoch_and_index_alone(lengths: list[int], seed: int) -> None:
    whole = Buckets(lengths, most=4, seed=seed)
    inside = Buckets(lengths, most=4, seed=seed)
    last = len(whole) - 1
    whole(1, 0), whole(2, 0)
    assert whole(3, last).tolist() == inside(3, last).tolist()


def test_epochs_and_seeds_differ_and_padding_is_saved() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500).tolist()
    buckets, mixed = Buckets(lengths, most=16), Buckets(lengths, most=16, alike=False)
    first = [buckets(1, i).tolist() for i in range(len(buckets))]
    assert first != [buckets(2, i).tolist() for i in range(len(buckets))]
    assert first != [Buckets(lengths, most=16, seed=1)(1, i).tolist() for i in range(len(buckets))]
    assert buckets.padding < 0.05 < 0.3 < mixed.padding


def test_outside_of_the_epoch() -> None:
    with pytest.raises(IndexError, match="batch 1 of 1"):
        Buckets([3, 4])(1, 1)
