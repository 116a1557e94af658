"""A cell that reads a memory: as a block, with what it computes in the order in which it does, and its wires."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elman.plots import theme
from elman.plots.blocks import indexed
from elman.plots.canvas import Canvas, Disc, Label, Line, arrow
from elman.plots.drawing import Block
from elman.plots.grid import Grid

__all__ = ["looking", "memory_wires"]

NAMES = {"lstm": "LSTM", "gru": "GRU", "gru, reset before": "GRU", "rnn": "Elman", "mgu": "MGU"}
SCORES = {
    "AdditiveAttention": "v tanh(W_q q + U_m m_s + b_q)",
    "ConcatAttention": "v tanh(W_a [q ; m_s])",
    "GeneralAttention": "q · (U_m m_s)",
    "DotAttention": "q · m_s",
    "MultiHeadAttention": "(W_q q) · (U_m m_s)",
    "CoverageAttention": "v tanh(W_q q + U_m m_s + w_c c_s + b_q)",
    "LocationAttention": "v tanh(W_q q + U_m m_s + L f_s + b_q)",
}

# What the parameters of the parts are called in the equations.
CALLED = {
    "weight ih": "U",
    "weight hh": "W",
    "bias ih": "b",
    "bias hh": "d",
    "query.weight": "W_q",
    "query.bias": "b_q",
    "key.weight": "U_m",
    "key.bias": "b_m",
    "value.weight": "W_v",
    "value.bias": "b_v",
    "out.weight": "W_o",
    "out.bias": "b_o",
    "score.weight": "v",
    "score.bias": "r",
    "coverage": "w_c",
    "mix.weight": "W_a",
    "location.weight": "L",
    "kernels": "K_f",
}
PARTS = {"cell": "1", "second": "2", "attention": "", "mix": "f"}


def called(name: str) -> str:
    """`cell.weight ih_d` as `U_{1,d}`."""
    part, _, rest = name.replace("attention.attention.", "attention.").partition(".")
    for known, letter in CALLED.items():
        if part in PARTS and rest.startswith(known):
            base, _, own = letter.partition("_")
            mark = rest[len(known) :].lstrip("_").strip("{}")
            return indexed(base, own or PARTS[part], mark)
    return indexed("W_f" if rest.startswith("weight") else "b_f", "") if part == "mix" else name


def looking(block: Block, cell: Any, kind: str | None) -> Block:
    """The block of an `AttentionCell`; kind: the kind of its own cell, None for one of the user's."""
    name = NAMES.get(kind or "", type(cell.cell).__name__)
    # One that only sums up where another has looked has that one inside.
    inner = getattr(cell.attention, "attention", cell.attention)
    score = SCORES.get(type(inner).__name__, "score(q, m_s)")
    fed = "[x_t ; y_{t−1}]" if cell.feeding else "x_t"
    steps = {
        "before": (("q = h_{t−1}", f"h_t = {name}([x_t ; c_t], h_{{t−1}})"), 1),
        "between": ((f"q = {name}(x_t, h_{{t−1}})", f"h_t = {name}(c_t, q)"), 1),
        "after": ((f"q = h_t = {name}({fed}, h_{{t−1}})",), 1),
    }
    lines, at = steps[cell.look]
    weights_of = f"a_s ∝ exp({score})"
    if type(cell.attention).__name__ == "MonotonicAttention":
        weights_of = "p_s = σ(v tanh(W_q q + U_m m_s + b_q) + r), a_s: the chance to stop at s"
    equations = [*lines[:at], weights_of, "c_t = ∑ a_s m_s", *lines[at:]]
    equations.append("y_t = tanh(W_f [h_t ; c_t] + b_f)" if cell.feeding else "y_t = [h_t ; c_t]")
    weights = tuple(replace(weight, name=called(weight.name)) for weight in block.weights)
    block = replace(block, weights=weights)
    widened = replace(
        block, name=f"{name} with attention", letter="F", looks=True, equations=tuple(equations)
    )
    return replace(widened, remarks=(*block.remarks, "m_s: what the encoder gives at its step s"))


def memory_wires(canvas: Canvas, encoder: Grid, decoder: Grid) -> None:
    """What each step of the encoder gives, gathered and led to every step of the block that looks at it."""
    for row in decoder.rows:
        if not row.block.looks:
            continue
        over, under = encoder.rows[-1].leaves - 16, row.bottom + 13
        beside = (encoder.right + decoder.left) / 2 + 16
        first, last = encoder.columns[0].x, decoder.columns[-1].x + decoder.half / 2
        bus = ((first, over), (beside, over), (beside, under), (last, under), (last, row.bottom))
        canvas.add(arrow(*bus, colour=theme.MEMORY, halo=theme.PAPER))
        for column in encoder.columns:
            canvas.add(Line(((column.x, encoder.rows[-1].leaves), (column.x, over)), theme.MEMORY))
            canvas.add(Disc((column.x, over), 3, theme.MEMORY))
        lane = row.lane("forward")
        canvas.add(arrow((beside, lane), (decoder.left, lane), colour=theme.RECURRENT, halo=theme.PAPER))
        canvas.add(Disc((beside, lane), 3, theme.RECURRENT))
        canvas.add(Label((beside + decoder.left) / 2, lane - 8, "s_0", theme.INDEX, "math", anchor="middle"))
        for column in decoder.columns[:-1]:
            x = column.x + decoder.half / 2
            canvas.add(arrow((x, under), (x, row.bottom), colour=theme.MEMORY, halo=theme.PAPER))
        canvas.add(Label(encoder.right + 8, over - 8, "m_1 … m_S", theme.INDEX, "math", theme.MEMORY))
