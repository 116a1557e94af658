"""The cells of the grid that a user has written in plain torch, unfolded by `elman.nn.Recurrent`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

import elman.nn
from benchmarks import cells
from benchmarks.grid.network import Layer, Network, Size, Step, Written, python_loop, seeded
from benchmarks.pairing import Answers

RECURRENT_DROPOUT = 0.25
ZONEOUT = {"h": 0.05, "c": 0.5}
SEEN = 0.7


def custom(
    cell: nn.Module, size: Size, *, extra: tuple[Tensor, ...] = (), context: Tensor | None = None
) -> Network:
    """A cell under `elman.nn.Recurrent`.

    extra: sequences `(T, B, ...)` that the cell takes beside x. context: what every step gets, such as a drawn mask.
    """
    T, B, I, _ = size
    layer = elman.nn.Recurrent(cell, fallback="error")

    def forward(x: Tensor) -> Tensor:
        y: Tensor = layer((x, *extra) if extra else x, context=context).y
        return y

    def unfold(steps: Sequence[Step], x: Tensor) -> Tensor:
        start = cell.initial_state(B)  # type: ignore[operator]
        return python_loop(steps[0], (x, *extra), start, () if context is None else (context,))

    parameters = dict(cell.named_parameters())
    x = torch.randn(T, B, I, generator=seeded(1))
    written = Written(cell, extra, () if context is None else (context,))
    return Network(x, Layer("elman.nn.Recurrent", forward, parameters), (cell,), unfold, written=written)


def layer_norm(size: Size) -> Network:
    """An LSTM with layer norm."""
    torch.manual_seed(0)
    return custom(cells.LayerNormLSTMCell(size.I, size.H), size)


def peephole(size: Size) -> Network:
    """An LSTM with peepholes."""
    torch.manual_seed(0)
    return custom(cells.PeepholeLSTMCell(size.I, size.H), size)


def recurrent_dropout(size: Size) -> Network:
    """An LSTM with one mask a sequence on h: drawn once, the same for both sides."""
    torch.manual_seed(0)
    cell = cells.RecurrentDropoutLSTMCell(size.I, size.H)
    kept = torch.rand(size.B, size.H, generator=seeded(2)) >= RECURRENT_DROPOUT
    return custom(cell, size, context=kept.float() / (1 - RECURRENT_DROPOUT))


def zoneout(size: Size) -> Network:
    """An LSTM with zoneout: the masks of all steps drawn once, the same for both sides."""
    torch.manual_seed(0)
    cell = cells.ZoneoutLSTMCell(size.I, size.H)
    draw = torch.rand(2, size.T, size.B, size.H, generator=seeded(2))
    return custom(cell, size, extra=((draw[0] < ZONEOUT["h"]).float(), (draw[1] < ZONEOUT["c"]).float()))


def li_gru(size: Size) -> Network:
    """A light GRU."""
    torch.manual_seed(0)
    return custom(cells.LiGRUCell(size.I, size.H), size)


def gru_d(size: Size) -> Network:
    """A GRU-D; what was seen is drawn, and the times since then follow from it (eq. 2)."""
    torch.manual_seed(
        1
    )  # 0 puts an argument of a ReLU at 1e-8 at (100, 64, 512, 512): either slope is right there
    cell = elman.nn.GRUDCell(size.I, size.H)
    seen = (torch.rand(size.T, size.B, size.I, generator=seeded(2)) < SEEN).float()
    since = torch.zeros_like(seen)
    for t in range(1, size.T):
        since[t] = 1 + (1 - seen[t - 1]) * since[t - 1]
    # in units of about the sequence's usual gap, so that what decays has not decayed at once
    return custom(cell, size, extra=(seen, 0.25 * since))


def separate_gates(size: Size) -> Network:
    """An LSTM written with two Linears for each gate, beside a loop and beside `elman.nn.LSTM` itself."""
    torch.manual_seed(0)
    cell = cells.SeparateGatesLSTMCell(size.I, size.H)
    network = custom(cell, size)
    own = elman.nn.LSTM(size.I, size.H, fallback="error")
    joined = {
        "weight_ih_l0": [getattr(cell, f"x{gate}").weight for gate in cell.gates],
        "weight_hh_l0": [getattr(cell, f"h{gate}").weight for gate in cell.gates],
        "bias_ih_l0": [getattr(cell, f"x{gate}").bias for gate in cell.gates],
        "bias_hh_l0": [getattr(cell, f"h{gate}").bias for gate in cell.gates],
    }
    own.load_state_dict({name: torch.cat(parts) for name, parts in joined.items()})

    def read(answers: Answers) -> Answers:
        parts = dict(answers)
        for letter, end in (("x", "ih"), ("h", "hh")):
            for what in ("weight", "bias"):
                if (whole := parts.pop(f"grad {what}_{end}_l0", None)) is not None:
                    pieces = zip(cell.gates, whole.chunk(4), strict=True)
                    parts |= {f"grad {letter}{gate}.{what}": piece for gate, piece in pieces}
        return parts

    rival = Layer("elman.nn.LSTM", lambda x: own(x).y, dict(own.named_parameters()), read)
    return replace(network, rivals={"elman.nn.LSTM": rival})
