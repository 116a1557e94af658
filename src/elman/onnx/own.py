"""Steps that ONNX has nodes of its own for: LSTM, GRU and RNN, recognized by their programs.

A program is one of these if it says, but for the names of its values, what the program of the layer (or of torch's
cell) says.

        ONNX                                    gates in W and R    torch's
        LSTM                                    i, o, f, c          i, f, g, o
        GRU with linear_before_reset = 1        z, r, h             r, z, n
        RNN                                     one                 one
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine import Scan
from elman.engine.printing import FORWARD, forward_of, live
from elman.engine.program.program import Program
from elman.nn import GRU, LSTM, RNN
from elman.onnx.graph import Handle, Scope
from elman.onnx.unfold import Call, Results

__all__ = ["KINDS", "Own", "own_node", "recognized"]

_ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # ONNX's gates, as places among torch's
_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}
KINDS = tuple(_ORDERS)
_WORD = re.compile(r"(?<![\w.])[A-Za-z]+\d+(?![\w.])")


@dataclass(frozen=True, slots=True)
class Own:
    """A node of ONNX: its kind, its activations where they are not the default, and which of a program's reads (by
    place) are W, R and the biases."""

    kind: str
    activations: tuple[str, ...]
    reads: Mapping[str, int]


def _text(program: Program) -> tuple[str, list[int]]:
    """What a program says, its values numbered as they appear; and the places of its reads as they appear."""
    needed = live(program)
    numbers: dict[str, str] = {}
    known = {v.name for role in ("x", "s", "c", "p") for v in getattr(program, role)}
    known |= {v.name for nodes in needed.nodes.values() for node in nodes for v in node.outs}

    def number(word: re.Match[str]) -> str:
        return numbers.setdefault(word[0], f"%{len(numbers)}") if word[0] in known else word[0]

    lines = [f"{role} {v}" for role in ("x", "s", "c") for v in getattr(program, role)]
    lines += [str(node) for name in FORWARD for node in needed.nodes[name]]
    lines += [f"{role} = {', '.join(v.name for v in getattr(program, role))}" for role in ("y", "ns")]
    text = "\n".join(_WORD.sub(number, line) for line in lines)
    places = {v.name: i for i, v in enumerate(program.p)}
    shapes = [str(v).split(" ", 1)[1] for v in program.p]
    reads = [places[name] for name in numbers if name in places]
    return f"{text}\n{[shapes[i] for i in reads]}", reads


def _layers(I: int, H: int, bias: bool) -> Iterator[tuple[str, tuple[str, ...], Scan, int]]:
    """Every step that has a node: its kind, activations, scan and number of states."""
    for kind, layer in (("LSTM", LSTM), ("GRU", GRU)):
        yield kind, (), layer(I, H, bias=bias).scans()[0], _STATES[kind]
    for word, function in (("tanh", "Tanh"), ("relu", "Relu")):
        yield "RNN", (function,), RNN(I, H, nonlinearity=word, bias=bias).scans()[0], 1
        yield "RNN", (function,), Scan(nn.RNNCell(I, H, bias, word)), 1
    yield "LSTM", (), Scan(nn.LSTMCell(I, H, bias)), 2
    yield "GRU", (), Scan(nn.GRUCell(I, H, bias)), 1


@lru_cache(maxsize=32)
def _known(I: int, H: int, bias: bool) -> dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """For each text of a program: kind, activations, and the roles of its reads as they appear."""
    found = {}
    with torch.random.fork_rng(devices=()):
        for kind, activations, scan, states in _layers(I, H, bias):
            start = tuple(torch.zeros(2, H) for _ in range(states))
            forward = forward_of(scan, torch.zeros(2, 2, I), start if states > 1 else start[0])
            assert isinstance(scan.owner, nn.Module)
            names = {id(t): name.removesuffix("_l0") for name, t in scan.owner.named_parameters()}
            text, reads = _text(forward.program)
            found[text] = kind, activations, tuple(names.get(id(forward.tensors[i]), "") for i in reads)
    return found


def recognized(program: Program) -> Own | None:
    """The node that a program is, or None."""
    if len(program.x) != 1 or program.c or len(program.s) not in (1, 2) or len(program.p) not in (2, 4):
        return None
    x, s = program.x[0], program.s[0]
    if len(x.shape) != 2 or len(s.shape) != 2 or x.dtype != torch.float32 or s.dtype != torch.float32:
        return None
    I, H = x.shape[1], s.shape[1]
    if not (isinstance(I, int) and isinstance(H, int)):
        return None
    text, reads = _text(program)
    entry = _known(I, H, len(program.p) == 4).get(text)
    if entry is None:
        return None
    kind, activations, roles = entry
    places = dict(zip(roles, reads, strict=True))
    if len(places) != len(program.p) or not {"weight_ih", "weight_hh"} <= set(places):
        return None
    return Own(kind, activations, places)


def own_node(
    scope: Scope, own: Own, read: Sequence[Handle], tensors: Sequence[Tensor] | None, call: Call
) -> Results:
    """A call as one node. read: what the step reads; tensors: the same as numbers, where they are known."""
    order = _ORDERS[own.kind]

    def gates(name: str) -> Handle:
        return _reordered(
            scope, read[own.reads[name]], None if tensors is None else tensors[own.reads[name]], order
        )

    inputs: list[Handle | None] = [call.x[0], gates("weight_ih"), gates("weight_hh")]
    biases = [gates(name) for name in ("bias_ih", "bias_hh") if name in own.reads]
    inputs.append(scope.op("Concat", *biases, axis=1) if biases else None)
    inputs.append(None if call.lengths is None else scope.cast(call.lengths, torch.int32))
    front = scope.constant([0])
    inputs += [scope.op("Unsqueeze", s, front) for s in call.state]
    options: dict[str, Any] = {
        "hidden_size": _hidden(own, read, tensors), "direction": "reverse" if call.reverse else "forward",
    }  # fmt: skip
    if own.activations:
        options["activations"] = list(own.activations)
    if own.kind == "GRU":
        options["linear_before_reset"] = 1
    y, *final = scope.ops(own.kind, inputs, 1 + len(call.state), **options)
    ends = [scope.op("Squeeze", f, front) for f in final]
    if call.lengths is not None:
        ends = _held(scope, call.lengths, ends, call.state)
    return Results([scope.op("Squeeze", y, scope.constant([1]))], ends, [])


def _held(scope: Scope, lengths: Handle, ends: list[Handle], starts: Sequence[Handle]) -> list[Handle]:
    """A row without a step holds its state: onnxruntime's nodes give zeros there."""
    moved = scope.op("Greater", scope.cast(lengths, torch.int64), scope.constant(0))
    column = scope.reshape(moved, [-1, 1])
    return [scope.where(column, end, start, torch.float32) for end, start in zip(ends, starts, strict=True)]


def _hidden(own: Own, read: Sequence[Handle], tensors: Sequence[Tensor] | None) -> int:
    place = own.reads["weight_hh"]
    if tensors is not None:
        return tensors[place].shape[1]
    shape = read[place].shape
    assert shape is not None
    size = shape[1]
    assert isinstance(size, int)
    return size


def _reordered(scope: Scope, h: Handle, t: Tensor | None, order: Sequence[int]) -> Handle:
    """The blocks of rows of a weight or a bias in another order, with an axis of one direction in front."""
    if t is not None:
        blocks = t.detach().chunk(len(order))
        return scope.constant(torch.cat([blocks[i] for i in order]).unsqueeze(0), t.dtype)
    shape = h.shape
    assert shape is not None
    rows = shape[0]
    assert isinstance(rows, int)
    places = torch.arange(rows).reshape(len(order), -1)[list(order)].reshape(-1)
    return scope.op("Unsqueeze", scope.op("Gather", h, scope.constant(places), axis=0), scope.constant([0]))
