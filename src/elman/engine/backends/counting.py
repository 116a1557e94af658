"""States of integers and booleans (clocks, counters, flags) beside those of floats, which alone the core has.

Where no float state enters them they are a recurrence of their own: it runs first, with torch and exactly, a few small
operations a step. What else is made of them alone is made once for all rows; the loop of the float states takes that
as it takes the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from elman.engine.backends.native import NativeLoops
from elman.engine.backends.reference import ReferenceLoops
from elman.engine.errors import NotSupported
from elman.engine.program.execute import Environment, compile_section, kind
from elman.engine.program.program import Node, Program, Section, Value, refs
from elman.engine.program.rows import Layout

__all__ = ["CountingLoops", "counts"]


def counts(program: Program) -> bool:
    """Whether some states are floats and others are not."""
    return len({v.dtype.is_floating_point for v in program.s}) == 2


class CountingLoops:
    """The loops of a program with states of both kinds. NotSupported where an integer one depends on a float one."""

    name = "native"

    def __init__(self, program: Program, device: Any) -> None:
        self.counted = [j for j, v in enumerate(program.s) if not v.dtype.is_floating_point]
        self.real = [j for j in range(len(program.s)) if j not in self.counted]
        loop = program.sections["loop"]
        bound = _reached(loop.nodes, [program.s[j] for j in self.real])
        if any(program.ns[j] in bound for j in self.counted):
            raise NotSupported("a state of integers or booleans depends on one of floats")
        free = [n for n in loop.nodes if n.outs[0] not in bound]
        own = _ancestors(free, [program.ns[j] for j in self.counted])
        steps = [n for n in free if any(out in own for out in n.outs)]
        rest = [n for n in free if not any(out in own for out in n.outs)]
        last = [n for n in loop.nodes if n.outs[0] in bound]
        wanted = {*loop.outs, *(program.ns[j] for j in self.real), *(v for n in last for v in refs(n))}
        self.derived = _section(rest, wanted)
        counting = _part(program, self.counted, steps, wanted | set(self.derived.ins), backward=False)
        self.counting = ReferenceLoops(counting)
        self.loops = NativeLoops(_part(program, self.real, last, set(loop.outs), backward=True), device)
        self.program = counting
        self._derive: Callable[..., Any] | None = None

    @property
    def compile(self) -> Callable[..., Callable[..., tuple[Tensor, ...]]]:
        """As the core does it."""
        return self.loops.compile

    def forward(
        self, rows: Layout, env: Environment, states: list[Tensor], initial: list[Tensor], before: list[Value],
        after: list[int],
    ) -> list[Tensor]:  # fmt: skip
        """See `ReferenceLoops.forward`."""
        finals: dict[int, Tensor] = {}
        histories: Environment = {}
        for places, loops in ((self.counted, self.counting), (self.real, self.loops)):
            own = loops.program.s
            kept = own if loops is self.counting else [v for v in before if v in own]
            here = [places.index(j) for j in after if j in places]
            found = loops.forward(rows, env, _of(states, places), _of(initial, places), kept, here)
            finals.update(zip(places, found, strict=True))
            histories.update({f"after{places[k]}": env.pop(f"after{k}") for k in here})
            if loops is self.counting:
                self._run_derived(rows, env)
        env.update(histories)
        return [finals[j] if j in self.real else finals[j].clone() for j in range(len(states))]

    def _run_derived(self, rows: Layout, env: Environment) -> None:
        section = self.derived
        if not section.outs:
            return
        self._derive = self._derive or compile_section(section, section.outs)
        given = [
            rows.spread(env[v.name], v.axis or 0, v.factor)
            if kind(self.program, v) == "context"
            else env[v.name]
            for v in section.ins
        ]
        device = next(iter(env.values())).device
        made = self._derive(rows.rows, device, *given)
        env.update({v.name: t for v, t in zip(section.outs, made, strict=True)})

    def backward(
        self, rows: Layout, env: Environment, grads: list[Tensor | None]
    ) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """See `ReferenceLoops.backward`."""
        spread: list[list[Tensor | None]] = []
        for found in self.loops.backward(rows, env, _of(grads, self.real)):
            table = dict(zip(self.real, found, strict=True))
            spread.append([table.get(j) for j in range(len(grads))])
        return spread[0], spread[1]


def _of(items: Sequence[Any], places: list[int]) -> list[Any]:
    """Those at these places; an empty list stays one."""
    return [items[j] for j in places] if items else []


def _reached(nodes: list[Node], start: list[Value]) -> set[Value]:
    """All that depends on some values, and these."""
    found = set(start)
    for node in nodes:
        if any(v in found for v in refs(node)):
            found.update(node.outs)
    return found


def _ancestors(nodes: list[Node], ends: list[Value]) -> set[Value]:
    """All that some values are made of, and these."""
    found = set(ends)
    for node in reversed(nodes):
        if any(out in found for out in node.outs):
            found.update(refs(node))
    return found


def _section(nodes: list[Node], wanted: set[Value], carried: Sequence[Value] = ()) -> Section:
    """These nodes, with what they (and the next step) take from outside and what of theirs is wanted there."""
    made = {out for node in nodes for out in node.outs}
    taken = [*(v for node in nodes for v in refs(node)), *carried]
    ins = dict.fromkeys(v for v in taken if v not in made)
    return Section(
        nodes=nodes, ins=list(ins), outs=[out for node in nodes for out in node.outs if out in wanted]
    )


def _part(
    program: Program, places: list[int], nodes: list[Node], wanted: set[Value], *, backward: bool
) -> Program:
    """The program of some of the states, with these nodes as its loop."""
    ns = _of(program.ns, places)
    loop = _section(nodes, wanted, ns)
    part = replace(program, s=_of(program.s, places), ns=ns, sections={**program.sections, "loop": loop})
    for role in ("gs", "ga", "ds"):
        setattr(part, role, _of(getattr(program, role), places) if backward else [])
    return part
