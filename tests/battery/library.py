"""The cells of `elman.nn` as cases of the registry: they are in no way another kind of cell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from battery.cells_simple import H, I
from battery.registry import Case
from elman.nn import cells


def _x(T: int, B: int) -> Tensor:
    return torch.randn(T, B, I)


def _h(B: int) -> Tensor:
    return torch.randn(B, H)


def _pair(B: int) -> tuple[Tensor, Tensor]:
    return _h(B), _h(B)


def _observed(T: int, B: int) -> Tensor:
    mask = (torch.rand(T, B, I) < 0.6).to(torch.get_default_dtype())
    return torch.cat((torch.randn(T, B, I), mask, torch.rand(T, B, I)), dim=-1)


def _case(name: str, make: Callable[[], nn.Module], state: Callable[[int], object] = _h) -> Case:
    return Case(f"library_{name}", partial(_uneven, make), _x, state)


def _uneven(make: Callable[[], nn.Module]) -> nn.Module:
    """Gains and biases are not one and zero, so that each has an effect."""
    cell = make()
    for p in cell.parameters():
        nn.init.uniform_(p, -0.6, 0.9)
    return cell


LIBRARY: list[Case] = [
    _case("elman", lambda: cells.ElmanCell(I, H)),
    _case("elman_without_bias", lambda: cells.ElmanCell(I, H, bias=False, nonlinearity="relu")),
    _case("elman_output", lambda: cells.ElmanCell(I, H, output_size=3, output_nonlinearity="sigmoid")),
    _case("lstm", lambda: cells.LSTMCell(I, H), _pair),
    _case("lstm_coupled", lambda: cells.CoupledLSTMCell(I, H), _pair),
    _case("lstm_layer_norm", lambda: cells.LayerNormLSTMCell(I, H), _pair),
    _case("lstm_layer_norm_of_the_sum", lambda: cells.LayerNormLSTMCell(I, H, variant="sum"), _pair),
    _case("lstm_peephole", lambda: cells.PeepholeLSTMCell(I, H), _pair),
    _case(
        "lstm_projected",
        lambda: cells.ProjectedLSTMCell(I, H, proj_size=3),
        lambda B: (torch.randn(B, 3), _h(B)),
    ),
    _case("gru", lambda: cells.GRUCell(I, H)),
    _case("gru_layer_norm", lambda: cells.LayerNormGRUCell(I, H)),
    _case("gru_original", lambda: cells.OriginalGRUCell(I, H)),
    _case("minimal_gated", lambda: cells.MinimalGatedCell(I, H)),
    Case(
        "library_gru_d_side_by_side",
        partial(_uneven, lambda: cells.GRUDCell(I, H)),
        _observed,
        lambda B: (_h(B), torch.randn(B, I)),
    ),
]
