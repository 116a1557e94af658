"""What a printer of programs needs of a step: its forward, what it reads, and what follows from that alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from elman.engine.call.inputs import gather
from elman.engine.errors import EngineError, NotSupported
from elman.engine.program.execute import Environment, run_section
from elman.engine.program.program import Node, Program, Section, Value, refs
from elman.engine.program.rows import layout
from elman.engine.scan import Scan
from elman.engine.structure import TreeSpec

__all__ = ["FORWARD", "Forward", "Live", "folded", "forward_of", "live", "without_static"]

FORWARD = ("static", "context", "hoisted", "loop", "trailing")


@dataclass(frozen=True, slots=True)
class Forward:
    """A program with the tensors that its step reads, in the program's order, and the structures of y and the state."""

    program: Program
    tensors: list[Tensor]
    y_spec: TreeSpec
    s_spec: TreeSpec


@dataclass(frozen=True, slots=True)
class Live:
    """What of a program its outputs and final states need.

    nodes: of each forward section. stacked: values of the loop that are wanted of all steps. before: states that are
    wanted as they were before each step.
    """

    nodes: dict[str, list[Node]]
    stacked: list[Value]
    before: list[Value]

    def reads(self, name: str) -> list[Value]:
        """What a section takes from outside, in order."""
        made: set[str] = set()
        found: dict[str, Value] = {}
        for node in self.nodes[name]:
            found.update({v.name: v for v in refs(node) if v.name not in made})
            made.update(v.name for v in node.outs)
        return list(found.values())


def forward_of(scan: Scan, x: Any, state: Any, context: Any = None) -> Forward:
    """The verified forward of a scan for inputs like these. EngineError where there is none, or where it draws random
    numbers."""
    with torch.inference_mode(False), torch.no_grad():
        given = gather(x, state, context, None, None, None, False, False)
        try:
            guard, plan = scan.prepare(given, "reference")
        except NotSupported as reason:
            hint = f"; instead: {reason.hint}" if reason.hint else ""
            raise EngineError(
                f"the step cannot be written down as a program: {reason.reason}{hint}"
            ) from reason
        if plan.random:
            raise EngineError("the step draws random numbers; call eval() on the module first")
        return Forward(plan.program, guard.tensors(), plan.y_spec, plan.s_spec)


def live(program: Program) -> Live:
    """What the outputs and the final states need, section by section."""
    wanted = {v.name for v in program.y}
    nodes: dict[str, list[Node]] = {}
    stacked: list[Value] = []
    before: list[Value] = []
    for name in reversed(FORWARD):
        section = program.sections[name]
        if name == "loop":
            made = [v for node in section.nodes for v in node.outs]
            stacked = [v for v in made if v.name in wanted]
            before = [v for v in program.s if v.name in wanted]
            wanted |= {v.name for v in program.ns}
        kept: list[Node] = []
        for node in reversed(section.nodes):
            if any(v.name in wanted for v in node.outs):
                kept.append(node)
                wanted |= {v.name for v in refs(node)}
        nodes[name] = kept[::-1]
    return Live(nodes, stacked, before)


def folded(program: Program, tensors: list[Tensor]) -> Environment:
    """What a program reads, and what it makes of that alone, by name."""
    env: Environment = {v.name: t.detach() for v, t in zip(program.p, tensors, strict=True)}
    device = tensors[0].device if tensors else torch.device("cpu")
    with torch.no_grad():
        run_section(program, "static", {}, env, layout(1, 1, None, None, False, device), compile_plainly)
    return env


def without_static(program: Program) -> Program:
    """The same for one who has what the static section makes."""
    return replace(program, sections=program.sections | {"static": Section()})


def compile_plainly(*_: Any) -> Any:
    """No section but the static one is carried out here."""
    raise AssertionError("only static sections are folded")
