"""Streams: the order of the tokens, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elman.data.batching import IGNORED, training_streams, whole_text


def test_training_streams_by_hand() -> None:
    streams = training_streams(np.arange(23), batch=2, steps=3)
    assert len(streams) == 3
    assert [streams[i].inputs.T.tolist() for i in range(3)] == [
        [[0, 1, 2], [11, 12, 13]],
        [[3, 4, 5], [14, 15, 16]],
        [[6, 7, 8], [17, 18, 19]],
    ]
    for i in range(3):
        assert np.array_equal(streams[i].targets, streams[i].inputs + 1)
        assert streams[i].inputs.dtype == np.int64


def test_penn_treebank_has_2323_pieces_an_epoch() -> None:
    assert len(training_streams(np.zeros(929_589, dtype=np.int32), batch=20, steps=20)) == 2323


@pytest.mark.parametrize("tokens", [0, 1, 11])
def test_too_few_tokens_are_refused(tokens: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        training_streams(np.arange(tokens), batch=2, steps=5)
    assert len(training_streams(np.arange(12), batch=2, steps=5)) == 1


@given(st.integers(2, 60), st.integers(1, 7), st.integers(1, 9))
def test_every_token_but_the_first_is_predicted_once_from_the_one_before(
    count: int, batch: int, steps: int
) -> None:
    streams = whole_text(np.arange(count), batch, steps)
    inputs = np.concatenate([streams[i].inputs for i in range(len(streams))])
    targets = np.concatenate([streams[i].targets for i in range(len(streams))])
    valid = targets != IGNORED
    assert sorted(targets[valid].tolist()) == list(range(1, count))
    assert np.array_equal(inputs[valid] + 1, targets[valid])
    for row in targets.T:
        kept = row[row != IGNORED]
        assert np.array_equal(kept, np.arange(kept[0], kept[0] + len(kept))) if len(kept) else True


def test_one_token_is_no_text() -> None:
    with pytest.raises(ValueError, match="nothing to predict"):
        whole_text(np.arange(1), 1, 5)


def test_a_piece_outside_is_an_error() -> None:
    streams = whole_text(np.arange(10), 1, 4)
    assert len(streams) == 3
    with pytest.raises(IndexError):
        streams[3]
