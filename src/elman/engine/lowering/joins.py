"""Rewrites for gates that the user wrote one by one: what is done to each is done to all at once.

A hand-written LSTM then becomes the program of one with a single matrix: `join_products` (in `passes`) has made one
product of its matrices; here the sums around it follow, and the backward of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from elman.engine.lowering.graphs import Namer, dependencies, in_order, producers, uses_of
from elman.engine.program.program import Graph, Node, Value, refs

__all__ = ["join_backward_products", "join_before_turning", "join_forward_sums", "join_gradients"]


@dataclass(slots=True)
class _Parts:
    """A value that is used in slices of its columns alone, which cover it: the slices, in order."""

    whole: Value
    slices: list[Node]

    def bounds(self) -> list[tuple[int, int]]:
        return [(n.args[2], n.args[3]) for n in self.slices]


def _is_column_slice(node: Node) -> bool:
    return (
        node.op == "slice.Tensor" and len(node.args) == 4 and node.args[1] in (1, -1)
        and len(node.args[0].shape) == 2 and node.args[0].axis == 0
    )  # fmt: skip


def _parts(graph: Graph) -> dict[Value, _Parts]:
    uses, found = uses_of(graph), {}
    slices: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        if _is_column_slice(node):
            slices.setdefault(node.args[0], []).append(node)
    for whole, nodes in slices.items():
        nodes.sort(key=lambda n: int(n.args[2]))
        ends = [0, *(n.args[3] for n in nodes)]
        covers = (
            all(n.args[2] == end for n, end in zip(nodes, ends, strict=False)) and ends[-1] == whole.shape[1]
        )
        if len(nodes) > 1 and covers and uses[whole] == len(nodes):
            found[whole] = _Parts(whole, nodes)
    return found


def join_forward_sums(graph: Graph) -> None:
    """Slices of a product that each get a term of the same kind: the terms, side by side, are added to the product."""
    new = Namer(graph, "b")
    while _join_one_sum(graph, new):
        pass


def _join_one_sum(graph: Graph, new: Namer) -> bool:
    deps, uses, parts, made_by = dependencies(graph), uses_of(graph), _parts(graph), producers(graph.nodes)
    used_by = {v: node for node in graph.nodes for v in refs(node)}
    for whole, part in parts.items():
        if set("GY") & set(deps.get(whole, "")):
            continue
        if any(uses[n.outs[0]] != 1 or n.outs[0] not in used_by for n in part.slices):
            continue
        sums = [used_by[n.outs[0]] for n in part.slices]
        if len({id(n) for n in sums}) != len(sums) or not all(_is_add(n) for n in sums):
            continue
        terms = [_other(n, s.outs[0]) for n, s in zip(sums, part.slices, strict=True)]
        joined, gone, more = _side_by_side(part, terms, parts, uses, made_by, new)
        if joined is None:
            continue
        total = new(whole.shape, whole)
        dropped = {id(n) for n in (*part.slices, *gone, *sums)}
        nodes = [n for n in graph.nodes if id(n) not in dropped]
        nodes += [*more, Node("add.Tensor", (joined, whole), {}, (total,), sums[0].source)]
        nodes += [
            Node("slice.Tensor", (total, 1, low, high), {}, n.outs, n.source)
            for (low, high), n in zip(part.bounds(), sums, strict=True)
        ]
        graph.nodes = in_order(nodes)
        return True
    return False


def _is_add(node: Node) -> bool:
    same = all(isinstance(a, Value) and a.dtype == node.outs[0].dtype for a in node.args)
    return node.op == "add.Tensor" and len(node.args) == 2 and not node.kwargs and same


def _other(node: Node, v: Value) -> Value | None:
    left, right = node.args
    if left is right or node.outs[0].shape != v.shape:
        return None
    return right if left is v else left


def _side_by_side(
    part: _Parts, terms: Sequence[Value | None], parts: dict[Value, _Parts], uses: dict[Value, int],
    made_by: dict[Value, Node], new: Namer,
) -> tuple[Value | None, list[Node], list[Node]]:  # fmt: skip
    """The terms as one value, the nodes gone with it, and the new ones; None where they are not of one kind."""
    some = [t for t in terms if t is not None]
    if len(some) != len(terms):
        return None, [], []
    widths = [high - low for low, high in part.bounds()]
    if all(t.axis is None and not t.summed and t.shape == (w,) for t, w in zip(some, widths, strict=True)):
        joined = new((sum(widths),), part.whole)
        return joined, [], [Node("cat.default", (some, 0), {}, (joined,), part.slices[0].source)]
    makers = [made_by.get(t) for t in some]
    first = makers[0]
    other = parts.get(first.args[0]) if first is not None and _is_column_slice(first) else None
    if other is None or other.whole is part.whole or [id(n) for n in other.slices] != [id(n) for n in makers]:
        return None, [], []
    if other.bounds() != part.bounds() or any(uses[t] != 1 for t in some):
        return None, [], []
    return other.whole, other.slices, []


def join_backward_products(graph: Graph) -> None:
    """In the backward `a @ V + b @ W + ...` becomes `cat(a, b, ...) @ cat(V, W, ...)`, as if the gates had been one."""
    made_by, uses, deps, new = producers(graph.nodes), uses_of(graph), dependencies(graph), Namer(graph, "e")
    place = {v: i for i, v in enumerate(graph.p)}
    inner: set[Value] = set()
    dropped: set[int] = set()
    made: list[Node] = []
    for node in reversed(graph.nodes):
        if not _is_add(node) or node.outs[0] in inner or not set("GY") & set(deps.get(node.outs[0], "")):
            continue
        terms = _flat(node, made_by, uses, inner)
        products = [
            n
            for t in terms
            if uses[t] == 1 and (n := made_by.get(t)) is not None and _is_product(n, deps, node)
        ]
        if len(products) < 2:
            continue
        products.sort(key=lambda n: place.get(n.args[1], -1))
        rest = [t for t in terms if not any(t is n.outs[0] for n in products)]
        dropped |= (
            {id(n) for n in products}
            | {id(node)}
            | {id(made_by[v]) for v in _sums_inside(node, made_by, uses)}
        )
        made += _joined_product(products, rest, node, new)
    if dropped:
        graph.nodes = in_order([n for n in graph.nodes if id(n) not in dropped] + made)


def _is_product(node: Node, deps: dict[Value, str], total: Node) -> bool:
    if node.op != "mm.default" or node.outs[0].shape != total.outs[0].shape or node.outs[0].summed:
        return False
    a, weight = node.args
    return a.axis == 0 and weight.axis is None and not weight.summed and not deps.get(weight, "")


def _flat(node: Node, made_by: dict[Value, Node], uses: dict[Value, int], inner: set[Value]) -> list[Value]:
    """The terms of a sum, those of sums inside it that nothing else uses too."""
    terms: list[Value] = []
    for arg in node.args:
        below = made_by.get(arg)
        if below is not None and uses[arg] == 1 and _is_add(below) and arg.shape == node.outs[0].shape:
            inner.add(arg)
            terms += _flat(below, made_by, uses, inner)
        else:
            terms.append(arg)
    return terms


def _sums_inside(node: Node, made_by: dict[Value, Node], uses: dict[Value, int]) -> set[Value]:
    inside: set[Value] = set()
    _flat(node, made_by, uses, inside)
    return inside


def _joined_product(products: list[Node], rest: list[Value], node: Node, new: Namer) -> list[Node]:
    out, source = node.outs[0], node.source
    rows, weights = [n.args[0] for n in products], [n.args[1] for n in products]
    width = sum(w.shape[0] for w in weights)
    a, weight = new((rows[0].shape[0], width), rows[0]), new((width, out.shape[1]), weights[0])
    total = out if not rest else new(out.shape, out)
    nodes = [
        Node("cat.default", (rows, 1), {}, (a,), source),
        Node("cat.default", (weights, 0), {}, (weight,), source),
        Node("mm.default", (a, weight), {}, (total,), source),
    ]
    for i, term in enumerate(rest):
        result = out if i == len(rest) - 1 else new(out.shape, out)
        nodes.append(Node("add.Tensor", (term, total), {}, (result,), source))
        total = result
    return nodes


def join_before_turning(graph: Graph) -> None:
    """`cat(V.T, W.T, ...)` becomes `cat(V, W, ...).T` along the other axis: the same matrix in the forward and in the
    backward."""
    made_by, new = producers(graph.nodes), Namer(graph, "t")
    nodes: list[Node] = []
    for node in graph.nodes:
        turned = _turned_parts(node, made_by)
        if turned is None:
            nodes.append(node)
            continue
        out = node.outs[0]
        joined = new((out.shape[1], out.shape[0]), out)
        nodes.append(Node("cat.default", (turned, 1 - node.args[1]), {}, (joined,), node.source))
        nodes.append(Node("permute.default", (joined, [1, 0]), {}, (out,), node.source))
    graph.nodes = nodes


def _turned_parts(node: Node, made_by: dict[Value, Node]) -> list[Value] | None:
    out = node.outs[0]
    if node.op != "cat.default" or len(node.args) < 2 or node.args[1] not in (0, 1) or out.axis is not None:
        return None
    if out.summed or len(out.shape) != 2:
        return None
    makers = [made_by.get(v) for v in node.args[0]]
    parts = [
        m.args[0]
        for m in makers
        if m is not None and m.op == "permute.default" and m.args[1] in ([1, 0], (1, 0))
    ]
    return parts if len(parts) == len(makers) else None


def join_gradients(graph: Graph) -> None:
    """Where rows stand side by side in a cat, sums over each of them become slices of the sums over the whole."""
    new = Namer(graph, "d")
    taken: set[Value] = set()
    for cat in [n for n in graph.nodes if _is_row_cat(n)]:
        if taken.isdisjoint(cat.args[0]) and len(set(cat.args[0])) == len(cat.args[0]):
            taken.update(cat.args[0])
            _join_sums_of(graph, cat, new)


def _is_row_cat(node: Node) -> bool:
    return (
        node.op == "cat.default" and len(node.args) > 1 and node.args[1] == 1 and node.outs[0].axis == 0
        and node.outs[0].factor == 1 and all(len(v.shape) == 2 for v in node.args[0])
    )  # fmt: skip


@dataclass(slots=True)
class _Sums:
    """Sums over the rows of each part of a cat, all of one kind. other: what the parts are multiplied with."""

    other: Value | None
    on_the_left: bool  # other.T @ part, not part.T @ other
    of: dict[Value, Node]


def _join_sums_of(graph: Graph, cat: Node, new: Namer) -> None:
    parts: list[Value] = cat.args[0]
    turned: dict[Value, Value] = {}
    sums: dict[object, _Sums] = {}
    for node in graph.nodes:
        if node.op == "permute.default" and node.args[1] in ([1, 0], (1, 0)):
            turned[node.outs[0]] = node.args[0]
        elif node.op == "mm.default" and node.outs[0].summed and node.args[0] in turned:
            left, right = turned[node.args[0]], node.args[1]
            if left in parts:
                sums.setdefault(("left", right), _Sums(right, False, {})).of[left] = node
            elif right in parts:
                sums.setdefault(("right", left), _Sums(left, True, {})).of[right] = node
        elif _sums_rows(node, parts):
            key = (len(node.outs[0].shape), repr(node.args[1:]), repr(node.kwargs))
            sums.setdefault(key, _Sums(None, False, {})).of[node.args[0]] = node
    dropped: set[int] = set()
    made: list[Node] = []
    for some in sums.values():
        if len(some.of) == len(parts):
            dropped |= {id(n) for n in some.of.values()}
            made += _sliced_sum(cat.outs[0], parts, some, new)
    if dropped:
        graph.nodes = in_order([n for n in graph.nodes if id(n) not in dropped] + made)


def _sums_rows(node: Node, parts: Sequence[Value]) -> bool:
    if node.op != "sum.dim_IntList" or not node.outs[0].summed:
        return False
    return node.args[0] in parts and list(node.args[1]) == [0]


def _sliced_sum(whole: Value, parts: Sequence[Value], sums: _Sums, new: Namer) -> list[Node]:
    first, other = sums.of[parts[0]], sums.other
    width, out, source = whole.shape[1], first.outs[0], first.source
    if other is None:
        axis = len(out.shape) - 1
        total = new((*out.shape[:-1], width), out)
        nodes = [Node("sum.dim_IntList", (whole, *first.args[1:]), dict(first.kwargs), (total,), source)]
    else:
        left, right = (other, whole) if sums.on_the_left else (whole, other)
        axis = 1 if sums.on_the_left else 0
        turned = new((left.shape[1], left.shape[0]), left)
        total = new((left.shape[1], right.shape[1]), out)
        nodes = [
            Node("permute.default", (left, [1, 0]), {}, (turned,), source),
            Node("mm.default", (turned, right), {}, (total,), source),
        ]
    total.summed = True
    start = 0
    for part in parts:
        node, size = sums.of[part], part.shape[1]
        assert isinstance(size, int)
        nodes.append(Node("slice.Tensor", (total, axis, start, start + size), {}, node.outs, node.source))
        start += size
    return nodes
