"""What the passes share: who makes a value, who uses it, what it depends on, and putting another in its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from elman.engine.program.ops import is_random
from elman.engine.program.program import OUTPUTS, Graph, Node, Size, Value, refs
from elman.engine.structure import mapped

__all__ = [
    "Namer",
    "ancestors",
    "apply",
    "broadcast_shape",
    "dependencies",
    "in_order",
    "producers",
    "substitute",
    "uses_of",
]


def producers(nodes: Iterable[Node]) -> dict[Value, Node]:
    """The node that makes each value."""
    return {out: node for node in nodes for out in node.outs}


def dependencies(graph: Graph) -> dict[Value, str]:
    """For each value the roles of the inputs it depends on: letters of x, s, c, G (gradient of the next state), Y."""
    deps: dict[Value, str] = {}
    for letter, role in (("x", "x"), ("s", "s"), ("c", "c"), ("G", "gs"), ("Y", "gy")):
        deps.update({v: letter for v in getattr(graph, role) if v is not None})
    for node in graph.nodes:
        letters = set("".join(deps.get(v, "") for v in refs(node)))
        if is_random(node):
            letters.add("x")
        for out in node.outs:
            deps[out] = "".join(sorted(letters))
    return deps


def ancestors(values: Iterable[Value | None], made_by: dict[Value, Node]) -> set[Value]:
    """Everything that `values` are made of, themselves included."""
    found: set[Value] = set()
    todo = [v for v in values if v is not None]
    while todo:
        v = todo.pop()
        if v in found:
            continue
        found.add(v)
        if v in made_by:
            todo += refs(made_by[v])
    return found


def substitute(tree: Any, table: dict[Value, Value]) -> Any:
    """Other values in the place of some, in a nest of arguments."""

    def last(leaf: Any) -> Any:
        while isinstance(leaf, Value) and leaf in table:
            leaf = table[leaf]
        return leaf

    return mapped(tree, last)


def apply(graph: Graph, table: dict[Value, Value]) -> None:
    """Put other values in the place of some, everywhere."""
    if not table:
        return
    for node in graph.nodes:
        node.args = substitute(node.args, table)
        node.kwargs = substitute(node.kwargs, table)
    for role in OUTPUTS:
        setattr(graph, role, substitute(getattr(graph, role), table))


def uses_of(graph: Graph) -> Counter[Value]:
    """How often each value is used, by nodes and as a result."""
    count: Counter[Value] = Counter(v for node in graph.nodes for v in refs(node))
    count.update(v for role in OUTPUTS for v in getattr(graph, role) if v is not None)
    return count


def broadcast_shape(*shapes: Sequence[Size]) -> tuple[Size, ...]:
    """The shape of an element-wise operation on values of these shapes."""
    rank = max(map(len, shapes))
    columns = zip(*[(*[1] * (rank - len(shape)), *shape) for shape in shapes], strict=True)
    return tuple(next((n for n in column if n != 1), 1) for column in columns)


class Namer:
    """Fresh names for values that a pass makes."""

    def __init__(self, graph: Graph, letter: str) -> None:
        self.taken = {out.name for node in graph.nodes for out in node.outs}
        self.letter, self.count = letter, 0

    def __call__(self, shape: Iterable[Size], like: Value) -> Value:
        self.count += 1
        while f"{self.letter}{self.count}" in self.taken:
            self.count += 1
        return Value(f"{self.letter}{self.count}", tuple(shape), like.dtype)


def in_order(nodes: list[Node]) -> list[Node]:
    """In an order where each value is made before it is used, as near to the given one as may be."""
    made_by = producers(nodes)
    done: set[int] = set()
    order: list[Node] = []

    def visit(node: Node) -> None:
        stack = [(node, iter([made_by[v] for v in refs(node) if v in made_by]))]
        while stack:
            current, waiting = stack[-1]
            following = next((n for n in waiting if id(n) not in done), None)
            if following is not None:
                stack.append((following, iter([made_by[v] for v in refs(following) if v in made_by])))
                continue
            stack.pop()
            if id(current) not in done:
                done.add(id(current))
                order.append(current)

    for node in nodes:
        if id(node) not in done:
            visit(node)
    return order
