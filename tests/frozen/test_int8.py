"""Matrices in eight bits: the nearest ones, found again in a file to the bit, and the model left as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import elman
from elman import nn as en
from elman.frozen import frozen_bytes, in_eight_bits
from elman.frozen.int8 import packed, rounded
from elman.runtime import Frozen

LAYERS: dict[str, Callable[[], nn.Module]] = {
    "lstm, both directions": lambda: elman.LSTM(5, 6, num_layers=2, bidirectional=True),
    "gru, float64": lambda: elman.GRU(5, 6).double(),
    "projected": lambda: elman.LSTM(5, 8, proj_size=3),
    "a cell": lambda: en.Recurrent(en.GRUCell(5, 6)),
}


@pytest.mark.parametrize("seed", range(60))
def test_rounded_numbers_are_found_again(seed: int) -> None:
    draw = np.random.default_rng(seed)
    dtype = (np.float32, np.float64)[seed % 2]
    values = (draw.normal(size=draw.integers(1, 40, size=2)) * 10.0 ** draw.integers(-30, 30)).astype(dtype)
    values[draw.integers(len(values))] *= seed % 3  # a row of zeros
    found = rounded(values, 0)
    scale = np.abs(values).max(axis=1, keepdims=True) / 127
    assert (np.abs(found.values - values) <= 0.501 * scale).all()
    for given, axis in ((found.values, 0), (np.ascontiguousarray(found.values.T), 1)):
        again = packed(given, axis)
        assert again is not None
        assert np.array_equal(again.values, given)
    assert packed(values + scale / 3, 0) is None or not values.any() or min(values.shape) == 1
    assert packed(np.full((2, 2), np.nan, dtype), 0) is None


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_a_file_has_the_numbers_of_the_rounded_model(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().eval()
    x = torch.randn(9, 3, 5, dtype=next(layer.parameters()).dtype)
    kept = {key: value.clone() for key, value in layer.state_dict().items()}
    small = Frozen(frozen_bytes(layer, int8=True))
    with in_eight_bits(layer):
        assert any(not torch.equal(value, kept[key]) for key, value in layer.state_dict().items())
        rounded_file, y = Frozen(frozen_bytes(layer)), layer(x)[0]
    assert all(torch.equal(value, kept[key]) for key, value in layer.state_dict().items())
    found = small.run(x.numpy()).y
    assert np.array_equal(found, rounded_file.run(x.numpy()).y)
    assert np.abs(found - y.numpy()).max() < 1e-5
    if small.can_step:
        stream = small.stream(3)
        assert np.array_equal(np.stack([stream(step) for step in x.numpy()]), found)


def test_what_has_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="no matrix of weights"):
        frozen_bytes(elman.RNN(1, 1), int8=True)
    layer = elman.GRU(3, 4)
    with torch.no_grad():
        layer.weight_hh_l0[2, 1] = torch.inf
    with pytest.raises(ValueError, match="weight_hh_l0 has numbers that are not finite"):
        frozen_bytes(layer, int8=True)
