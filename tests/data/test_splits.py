"""Splits: whole, stratified, never parting a group; folds; leaks."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.config import UserError
from elman.data.splits import Split, folds, shared, split, split_by_time


def drawn(seed: int) -> tuple[list[str], list[str]]:
    """Speakers of up to some items each, and strata, some of which cut across the speakers."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(100, 200))
    keys = [f"speaker {number}" for number in generator.integers(0, 60, count)]
    return keys, generator.choice(list("abc"), count).tolist()


def assert_whole(found: Split, count: int) -> None:
    assert sorted(np.concatenate(found).tolist()) == list(range(count))


@given(st.integers(50, 300), st.lists(st.floats(0.05, 1), min_size=2, max_size=4), st.integers(0, 5))
def test_single_items_are_stratified_to_within_one(count: int, weights: list[float], seed: int) -> None:
    shares = np.array(weights) / sum(weights)
    strata = [str(number) for number, share in enumerate(shares) for _ in range(int(share * count) + 1)]
    keys = [f"key {i}" for i in range(len(strata))]
    found = split(keys, strata, valid=0.2, test=0.1, seed=seed)
    assert_whole(found, len(keys))
    for part, share in zip(found, (0.7, 0.2, 0.1), strict=True):
        own = Counter(strata[i] for i in part)
        for stratum, total in Counter(strata).items():
            assert abs(own[stratum] - share * total) < 2.5
    assert set(strata) == {strata[i] for i in found.train}


@pytest.mark.parametrize("seed", range(10))
def test_groups_are_not_parted_and_the_order_of_the_rows_is_nothing(seed: int) -> None:
    keys, strata = drawn(seed)
    found = split(keys, strata, valid=0.2, test=0.2, seed=seed)
    assert_whole(found, len(keys))
    sides = [{keys[i] for i in part} for part in found]
    assert sum(map(len, sides)) == len(set(keys))
    order = np.random.default_rng(seed).permutation(len(keys))
    again = split([keys[i] for i in order], [strata[i] for i in order], valid=0.2, test=0.2, seed=seed)
    assert [{keys[order[i]] for i in part} for part in again] == sides
    for part, share in zip(found, (0.6, 0.2, 0.2), strict=True):
        assert abs(len(part) / len(keys) - share) < 0.08


def test_another_seed_is_another_split() -> None:
    keys = [str(i) for i in range(100)]
    a, b, c = (split(keys, ["x"] * 100, valid=0.1, test=0.1, seed=seed).test.tolist() for seed in (0, 0, 1))
    assert a == b != c


def test_a_share_that_nothing_can_fill_is_refused() -> None:
    with pytest.raises(UserError, match="2 different items or groups are too few"):
        split(["a", "a", "b"], ["x"] * 3, valid=0.1, test=0.1)


@pytest.mark.parametrize("words", [False, True])
def test_by_time_the_latest_are_the_test(words: bool) -> None:
    times = np.random.default_rng(0).integers(1, 30, 80).tolist()
    stamps = [f"2026-01-{time:02}" if words else str(time) for time in times]
    found = split_by_time(stamps, valid=0.2, test=0.2)
    assert_whole(found, len(times))
    ends = [sorted(times[i] for i in part) for part in found]
    assert ends[0][-1] < ends[1][0]
    assert ends[1][-1] < ends[2][0]


@pytest.mark.parametrize("count", range(2, 7))
def test_folds_test_each_item_once(count: int) -> None:
    keys, strata = drawn(count)
    found = folds(keys, strata, count, valid=0.2, seed=1)
    assert sorted(np.concatenate([fold.test for fold in found]).tolist()) == list(range(len(keys)))
    for fold in found:
        assert_whole(fold, len(keys))
        assert not {keys[i] for i in fold.test} & {keys[i] for part in fold[:2] for i in part}


def test_folds_need_two_and_no_more_than_there_are_groups() -> None:
    for count in (1, 4):
        with pytest.raises(UserError, match="from 2 to 3"):
            folds(["a", "b", "c"], ["x"] * 3, count, valid=0.0)


def test_shared_items_are_found() -> None:
    assert shared(["a", "b", ""], ["c", "b", "", "a"]) == [1, 3]
