"""The loops of a Program, run with torch operations: any dtype, any device; the oracle of the other backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from elman.engine.program.execute import Environment, compile_section, kind
from elman.engine.program.program import Program, Value
from elman.engine.program.rows import Layout

__all__ = ["ReferenceLoops"]


class ReferenceLoops:
    """Forward and backward loop of one program, a torch call for each operation and step."""

    name = "reference"
    compile = staticmethod(compile_section)

    def __init__(self, program: Program) -> None:
        self.program = program
        self.forward_outs = [*program.sections["loop"].outs, *program.ns]
        self.backward_outs = [*program.sections["loop_back"].outs, *(d for d in program.ds if d is not None)]
        self._forward: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None

    def forward(
        self, rows: Layout, env: Environment, states: list[Tensor], initial: list[Tensor], before: list[Value],
        after: list[int],
    ) -> list[Tensor]:  # fmt: skip
        """Run the loop; what it stores goes into `env`. Gives the final states, in sorted order.

        before: states whose values before each step are wanted (`env[name]`, rows). after: states whose values after
        each step are wanted (`env["after<j>"]`).
        """
        program = self.program
        section = program.sections["loop"]
        self._forward = self._forward or compile_section(section, self.forward_outs)
        states = list(states)
        kept: dict[str, list[tuple[int, Tensor]]] = {}
        for start, n in rows.schedule():
            now = [s[:n] for s in states]
            if rows.flags is not None:
                now = [
                    _choose(rows.flags[start : start + n], i[:n], s)
                    for i, s in zip(initial, now, strict=True)
                ]
            table = {v.name: s for v, s in zip(program.s, now, strict=True)}
            device = now[0].device
            out = self._forward(n, device, *[self._input(v, env, table, start, n) for v in section.ins])
            count = len(section.outs)
            new = [t.expand_as(s) for t, s in zip(out[count:], now, strict=True)]
            _keep(kept, start, zip(section.outs, out[:count], strict=True))
            _keep(kept, start, [(v, table[v.name]) for v in before])
            for j in after:
                kept.setdefault(f"after{j}", []).append((start, new[j]))
            states = [_advance(s, a, n) for s, a in zip(states, new, strict=True)]
        env.update(_collect(kept, {v.name: v for v in (*section.outs, *before)}))
        return states

    def backward(
        self, rows: Layout, env: Environment, grads: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Run the loop backward from the gradients of the final states; gives those of the states at the start and of
        the states that resets lead to, in sorted order."""
        program = self.program
        section = program.sections["loop_back"]
        self._backward = self._backward or compile_section(section, self.backward_outs)
        grads = list(grads)
        to_initial = [None if g is None or rows.flags is None else torch.zeros_like(g) for g in grads]
        kept: dict[str, list[tuple[int, Tensor]]] = {}
        for start, n in reversed(list(rows.schedule())):
            table = {
                v.name: g[:n]
                for v, g in zip(program.gs, grads, strict=True)
                if v is not None and g is not None
            }
            device = next(iter(env.values())).device
            out = self._backward(n, device, *[self._input(v, env, table, start, n) for v in section.ins])
            count = len(section.outs)
            _keep(kept, start, zip(section.outs, out[:count], strict=True))
            carried = iter(out[count:])
            flags = None if rows.flags is None else rows.flags[start : start + n]
            for j, d in enumerate(program.ds):
                g = grads[j]
                if g is None:
                    continue
                new = next(carried).expand_as(g[:n]) if d is not None else torch.zeros_like(g[:n])
                into = to_initial[j]
                if flags is not None and into is not None:
                    zero = torch.zeros_like(new)
                    to_initial[j] = _advance(into, into[:n] + _choose(flags, new, zero), n)
                    new = _choose(flags, zero, new)
                grads[j] = _advance(g, new, n)
        env.update(_collect(kept, {v.name: v for v in section.outs}))
        return grads, to_initial

    def _input(self, v: Value, env: Environment, table: dict[str, Tensor], start: int, n: int) -> Tensor:
        if v.name in table:
            return table[v.name]
        what = kind(self.program, v)
        t = env[v.name]
        if what == "static":
            return t
        axis, factor = v.axis or 0, v.factor
        return t.narrow(axis, 0 if what == "context" else start * factor, n * factor)


def _choose(flags: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(flags.to(no.device).view(-1, *[1] * (no.dim() - 1)), yes, no)


def _advance(old: Tensor, new: Tensor, n: int) -> Tensor:
    return new if n == old.shape[0] else torch.cat([new, old[n:]])


def _keep(kept: dict[str, list[tuple[int, Tensor]]], start: int, pairs: Any) -> None:
    for v, t in pairs:
        kept.setdefault(v.name, []).append((start, t))


def _collect(kept: dict[str, list[tuple[int, Tensor]]], values: dict[str, Value]) -> Environment:
    """The rows of all steps in the order of time."""
    out: Environment = {}
    for name, pieces in kept.items():
        v = values.get(name)
        axis = 0 if v is None or v.axis is None else v.axis
        out[name] = torch.cat([t for _, t in sorted(pieces, key=lambda p: p[0])], axis)
    return out
