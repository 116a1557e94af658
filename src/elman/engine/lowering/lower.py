"""A traced graph becomes a Program: each node goes to the section where it is cheapest, and what the backward needs of
the forward is either stored or computed again.

Sections are filled from the last to the first; what one takes from outside is what an earlier one has to give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from elman.engine.errors import NotSupported
from elman.engine.lowering.graphs import ancestors, dependencies, producers
from elman.engine.program.ops import is_cheap
from elman.engine.program.program import (
    GRADIENTS,
    PROGRAM_INPUTS,
    SECTIONS,
    Graph,
    Node,
    Program,
    Section,
    Value,
    refs,
)
from elman.engine.structure import mapped

__all__ = ["Needs", "lower"]

FORWARD = ("static", "context", "hoisted", "loop", "trailing")
BACKWARD = ("pre", "loop_back", "post", "final")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a call wants: gradients of which inputs (none at all: inference), and gradients of all-step states."""

    x: tuple[bool, ...] = ()
    c: tuple[bool, ...] = ()
    p: tuple[bool, ...] = ()
    s: bool = False
    states: bool = False

    @property
    def any(self) -> bool:
        return self.s or any(self.x) or any(self.c) or any(self.p)


def lower(graph: Graph, needs: Needs) -> Program:
    """The Program of `graph` for a call with these needs. Raises NotSupported where a role is no rows."""
    program = _roles(graph, needs)
    _check_roles(program)
    nodes = _with_carried_gradients(graph, program, needs.states) if needs.any else list(graph.nodes)
    _Lowering(program, nodes, graph).run()
    try:
        program.verify()
    except ValueError as error:
        raise NotSupported(f"the step could not be sorted: {error}") from error
    return program


def _roles(graph: Graph, needs: Needs) -> Program:
    program = Program(
        x=list(graph.x), s=list(graph.s), c=list(graph.c), p=list(graph.p), y=list(graph.y), ns=list(graph.ns)
    )
    if not needs.any:
        return program
    program.gy, program.gs, program.ds = list(graph.gy), list(graph.gs), list(graph.ds)
    for j, (s, g) in enumerate(zip(program.s, program.gs, strict=True)):
        if g is None and s.dtype.is_floating_point:  # what a row that takes no step hands through
            program.gs[j] = Value(f"gs{j}", s.shape, s.dtype)
    for role, wanted in (("dx", needs.x), ("dc", needs.c), ("dp", needs.p)):
        grads = getattr(graph, role)
        kept = [g if i < len(wanted) and wanted[i] else None for i, g in enumerate(grads)]
        setattr(program, role, kept)
    return program


def _check_roles(program: Program) -> None:
    names = {"y": "y", "ns": "the next state", "dx": "the gradient of x", "ds": "the gradient of the state"}
    for role, what in {**names, "dc": "the gradient of the context"}.items():
        for v in getattr(program, role):
            if v is not None and (v.axis != 0 or v.factor != 1 or v.summed):
                raise NotSupported(f"{what} has no batch as its first axis")
    for v in program.dp:
        if v is not None and v.axis is not None:
            raise NotSupported("a tensor that the step reads gets a gradient for each row")


def _with_carried_gradients(graph: Graph, program: Program, states: bool) -> list[Node]:
    """The gradient that each step hands to the one before it, as a value of the backward loop (so that it can be
    stored); where gradients of the states after each step come in, they are added to it."""
    table: dict[Value, Value] = {}
    taken: list[Node] = []
    program.ga = [
        None if g is None or not states else Value(f"ga{j}", g.shape, g.dtype)
        for j, g in enumerate(program.gs)
    ]
    for j, (g, a) in enumerate(zip(program.gs, program.ga or [None] * len(program.gs), strict=True)):
        if g is None:
            continue
        table[g] = Value(f"gt{j}", g.shape, g.dtype)
        op, args = ("elman.convert", (g, g.dtype)) if a is None else ("add.Tensor", (g, a))
        taken.append(Node(op, args, {}, (table[g],)))

    def swap(tree: Any) -> Any:
        return mapped(tree, lambda leaf: table.get(leaf, leaf) if isinstance(leaf, Value) else leaf)

    rest = [Node(n.op, swap(n.args), n.kwargs, n.outs, n.source) for n in graph.nodes]
    for role in GRADIENTS:
        setattr(program, role, swap(getattr(program, role)))
    return taken + rest


class _Lowering:
    def __init__(self, program: Program, nodes: list[Node], graph: Graph) -> None:
        self.program = program
        self.nodes = nodes
        self.made_by = producers(nodes)
        self.deps = self._dependencies(nodes, graph)
        self.inputs = {v for role in PROGRAM_INPUTS for v in getattr(program, role) if v is not None}
        self.home: dict[Value, str] = {}
        self.saved: set[Value] = set()

    def _dependencies(self, nodes: list[Node], graph: Graph) -> dict[Value, str]:
        whole = Graph(nodes=nodes, x=graph.x, s=graph.s, c=graph.c, p=graph.p, gy=graph.gy, gs=graph.gs)
        deps = dependencies(whole)
        deps.update({v: "G" for v in self.program.ga if v is not None})
        return deps

    def run(self) -> None:
        self._place_forward()
        self._place_backward()
        self._choose_saved()
        wanted: dict[str, list[Value]] = {name: [] for name in SECTIONS}
        self._want(wanted, BACKWARD, self._gradients())
        for name in reversed(SECTIONS):
            if name == "trailing":
                self._want(wanted, FORWARD, self.program.y)
                self._want(wanted, FORWARD, [v for v in self.program.ns if not self._floating(v)])
            section = self._fill(name, wanted[name])
            self.program.sections[name] = section
            self._want(wanted, SECTIONS[: SECTIONS.index(name)], section.ins)

    # -- where each value is made

    def _place_forward(self) -> None:
        program = self.program
        forward = ancestors([*program.y, *program.ns], self.made_by)
        recurrent = ancestors(program.ns, self.made_by)
        for v in forward:
            if v in self.made_by and not self._floating(v):
                self.home[v] = self._forward_home(v, v in recurrent)
        for node in self.nodes:  # what a node makes beside it (the places of a maximum) is made there too
            homes = [self.home[v] for v in node.outs if v in self.home]
            if homes and len(node.outs) > 1:
                first = min(homes, key=FORWARD.index)
                self.home.update(dict.fromkeys(node.outs, first))

    def _forward_home(self, v: Value, recurrent: bool) -> str:
        letters = self.deps.get(v, "")
        if "s" in letters:
            return "loop" if recurrent else "trailing"
        if "x" in letters:
            return "hoisted"
        return "context" if "c" in letters else "static"

    def _gradients(self) -> list[Value]:
        program = self.program
        return [v for role in GRADIENTS for v in getattr(program, role) if v is not None]

    def _place_backward(self) -> None:
        needed = ancestors(self._gradients(), self.made_by)
        chain = {v for v in ancestors(self.program.ds, self.made_by) if "G" in self.deps.get(v, "")}
        feeds_chain = ancestors([*chain, *self.program.ds], self.made_by)
        for v in needed:
            if v in self.made_by and v not in self.home and not self._floating(v):
                self.home[v] = self._backward_home(v, v in chain, v in feeds_chain)

    def _backward_home(self, v: Value, chain: bool, feeds_chain: bool) -> str:
        if v.summed:
            return "final" if any(u.summed for u in refs(self.made_by[v])) else "post"
        if chain or v.name.startswith("gt"):
            return "loop_back"
        if "G" in self.deps.get(v, ""):
            return "post"
        return "pre" if feeds_chain or not self.deps.get(v, "") else "post"

    def _floating(self, v: Value) -> bool:
        """Rows made from no input (zeros of the batch's size): made anew in each section that wants them."""
        return v.axis is not None and not self.deps.get(v, "") and v in self.made_by

    # -- stored or computed again

    def _choose_saved(self) -> None:
        """Of the loop's values that the backward reads, dear ones are stored; cheap ones are computed again."""
        backward = [n for n in self.nodes if any(self.home.get(o) in BACKWARD for o in n.outs)]
        read = {v for n in backward for v in refs(n) if self.home.get(v) in ("loop", "trailing")}
        read |= {v for v in self._gradients() if self.home.get(v) in ("loop", "trailing")}
        self.saved = {v for v in read if not self._cheap(v)}
        for node in self.nodes:
            for v in node.outs:
                if v in read and v not in self.saved and not self._recomputable(v):
                    self.saved.add(v)

    def _cheap(self, v: Value) -> bool:
        return is_cheap(self.made_by[v])

    def _recomputable(self, v: Value) -> bool:
        if v in self.saved or v in self.inputs or self.home.get(v) not in ("loop", "trailing"):
            return True
        return self._cheap(v) and all(self._recomputable(u) for u in refs(self.made_by[v]))

    def _cloned(self, v: Value, section: str) -> bool:
        """Whether `v`, made elsewhere, is made again in this section."""
        if v not in self.made_by:
            return False
        if self._floating(v):
            return True
        home = self.home[v]
        if section in BACKWARD and home in ("loop", "trailing"):
            return v not in self.saved
        auxiliary = (
            home in ("pre", "post") and not set("GY") & set(self.deps.get(v, "")) and v.axis is not None
        )
        return auxiliary and section in ("loop_back", "post") and home != section and self._all_cheap(v)

    def _all_cheap(self, v: Value) -> bool:
        return (
            v not in self.made_by
            or self.home.get(v) not in ("pre", "post")
            or (self._cheap(v) and all(self._all_cheap(u) for u in refs(self.made_by[v])))
        )

    # -- filling the sections

    def _want(
        self, wanted: dict[str, list[Value]], sections: Iterable[str], values: Iterable[Value | None]
    ) -> None:
        """Values that a later section, or a role, takes from one of `sections`."""
        for v in values:
            if v is None or v in self.inputs:
                continue
            home = self._giver(v, tuple(sections))
            if v not in wanted[home]:
                wanted[home].append(v)

    def _giver(self, v: Value, sections: tuple[str, ...]) -> str:
        if self._floating(v) or v not in self.home:
            return "post" if "post" in sections else "trailing" if "trailing" in sections else sections[-1]
        return self.home[v]

    def _fill(self, name: str, outs: list[Value]) -> Section:
        section = Section(outs=list(outs))
        local: set[Value] = set()
        taken: set[Value] = set()
        roots = [v for v in [*outs, *self._carried(name)] if self._mine(v, name)]
        todo: list[tuple[Value, bool]] = [(v, False) for v in reversed(roots)]
        for v in self._carried(name):
            if not self._mine(v, name) and v not in taken:
                taken.add(v)
                section.ins.append(v)
        while todo:
            v, ready = todo.pop()
            if v in local or v in taken:
                continue
            if not self._mine(v, name):
                taken.add(v)
                section.ins.append(v)
            elif ready:
                node = self.made_by[v]
                section.nodes.append(node)
                local.update(node.outs)
            else:
                todo.append((v, True))
                todo += [(u, False) for u in reversed(list(refs(self.made_by[v])))]
        return section

    def _mine(self, v: Value, name: str) -> bool:
        if v in self.inputs:
            return False
        return self.home.get(v) == name or self._cloned(v, name)

    def _carried(self, name: str) -> list[Value]:
        """What a loop hands to its next step."""
        if name == "loop":
            return list(self.program.ns)
        if name == "loop_back":
            return [v for v in self.program.ds if v is not None]
        return []
