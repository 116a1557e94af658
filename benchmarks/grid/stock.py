"""The cells of the grid that torch.nn has too: RNN, GRU, LSTM and what torch can do with an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman.nn
from benchmarks.grid.network import Layer, Network, Size, Step, Stock, python_loop, seeded

Kind = Literal["LSTM", "GRU", "RNN"]


class StateOnly(nn.Module):
    """A cell of torch.nn, which returns its next state alone, as a step that also gives y_t."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """One step."""
        state = self.cell(x, state)
        return (state[0] if isinstance(state, tuple) else state), state


class Ragged(nn.Module):
    """A step over rows of which some have ended: those keep their state and give zeros."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(
        self, inputs: tuple[Tensor, Tensor], state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step; alive `(B, 1)` is true where a row has not ended."""
        x, alive = inputs
        y, new = self.step(x, state)
        h, c = (torch.where(alive, b, a) for a, b in zip(state, new, strict=True))
        return torch.where(alive, y, 0.0), (h, c)


def stock(
    kind: Kind, size: Size, *, num_layers: int = 1, bidirectional: bool = False, projected: bool = False
) -> Network:
    """`elman.nn.<kind>` with the weights of `torch.nn.<kind>`; `projected` halves the width of an LSTM's h."""
    T, B, I, H = size
    options: dict[str, Any] = {"num_layers": num_layers, "bidirectional": bidirectional}
    if projected:
        options["proj_size"] = H // 2
    theirs, ours = _pair(kind, I, H, options)
    x = torch.randn(T, B, I, generator=seeded(1))
    described = Stock(kind, ours.state_dict(), num_layers, 1 + bidirectional, H, None)
    return Network(
        x,
        Layer(f"elman.nn.{kind}", lambda x: _first(ours(x)), dict(ours.named_parameters())),
        tuple(_cell(kind, ours, suffix) for suffixes in described.suffixes() for suffix in suffixes),
        lambda steps, x: _unfold(steps, x, described, options.get("proj_size", H)),
        {"torch.nn": Layer(f"torch.nn.{kind}", lambda x: _first(theirs(x)), dict(theirs.named_parameters()))},
        None if projected else described,
    )


def ragged(size: Size) -> Network:
    """An LSTM over rows of lengths drawn uniformly from 1..T.

    torch.nn.LSTM gets a packed sequence; packing and padding again are inside its time, and so is the mask of flax,
    which leaves the padding as it is.
    """
    T, B, I, H = size
    theirs, ours = _pair("LSTM", I, H, {})
    x = torch.randn(T, B, I, generator=seeded(1))
    lengths = torch.randint(1, T + 1, (B,), generator=seeded(2))

    def packed(x: Tensor) -> Tensor:
        y, _ = theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(y, total_length=T)[0]

    def unfold(steps: Sequence[Step], x: Tensor) -> Tensor:
        alive = (torch.arange(T)[:, None] < lengths).unsqueeze(-1)
        return python_loop(steps[0], (x, alive), (x.new_zeros(B, H), x.new_zeros(B, H)))

    return Network(
        x,
        Layer("elman.nn.LSTM", lambda x: _first(ours(x, lengths=lengths)), dict(ours.named_parameters())),
        (Ragged(_cell("LSTM", ours, "_l0")),),
        unfold,
        {"torch.nn": Layer("torch.nn.LSTM, packed", packed, dict(theirs.named_parameters()))},
        Stock("LSTM", ours.state_dict(), 1, 1, H, lengths),
    )


def _pair(kind: Kind, I: int, H: int, options: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs: nn.Module = getattr(nn, kind)(I, H, **options)
    ours: nn.Module = getattr(elman.nn, kind)(I, H, fallback="error", **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def _cell(kind: Kind, layer: nn.Module, suffix: str) -> nn.Module:
    """torch's own cell with the parameters of one layer and direction; torch has none with a projection."""
    parameters = {
        name.removesuffix(suffix): value
        for name, value in layer.named_parameters()
        if name.endswith(suffix) and name.removesuffix(suffix) in NAMES
    }
    H, I = parameters["weight_ih"].shape[0] // GATES[kind], parameters["weight_ih"].shape[1]
    cell: nn.Module
    if "weight_hr" in parameters:
        cell = elman.nn.ProjectedLSTMCell(I, H, proj_size=parameters["weight_hr"].shape[0])
    else:
        cell = StateOnly(getattr(nn, f"{kind}Cell")(I, H))
    for name, value in parameters.items():
        (cell.cell if isinstance(cell, StateOnly) else cell).register_parameter(name, value)
    return cell


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
GATES: dict[Kind, int] = {"LSTM": 4, "GRU": 3, "RNN": 1}


def _unfold(steps: Sequence[Step], x: Tensor, layer: Stock, output_size: int) -> Tensor:
    """The layers one after the other, each over both directions where there are two."""
    B, H, D = x.shape[1], layer.hidden_size, layer.num_directions
    for first in range(0, len(steps), D):
        outputs = []
        for direction, step in enumerate(steps[first : first + D]):
            h = x.new_zeros(B, output_size)
            state = (h, x.new_zeros(B, H)) if layer.kind == "LSTM" else h
            y = python_loop(step, (x.flip(0) if direction else x,), state)
            outputs.append(y.flip(0) if direction else y)
        x = torch.cat(outputs, dim=-1) if D > 1 else outputs[0]
    return x


def _first(result: tuple[Tensor, object]) -> Tensor:
    return result[0]
