"""The rewrites that make ordinary code fast, as one list. Each takes a graph and leaves its meaning as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch

from elman.engine.lowering.convolutions import split_convolutions
from elman.engine.lowering.graphs import (
    Namer,
    ancestors,
    apply,
    broadcast_shape,
    dependencies,
    in_order,
    producers,
    substitute,
    uses_of,
)
from elman.engine.lowering.joins import (
    join_backward_products,
    join_before_turning,
    join_forward_sums,
    join_gradients,
)
from elman.engine.program.ops import is_integer, is_pointwise, is_random
from elman.engine.program.program import OUTPUTS, Graph, Node, Size, Value, refs

__all__ = ["PASSES", "optimize"]


def optimize(graph: Graph) -> Graph:
    """All passes, in order."""
    for rewrite in PASSES:
        rewrite(graph)
    return graph


def fold_shapes(graph: Graph) -> None:
    """Two permutations, two views or an expansion to the same shape in a row become one or none."""
    made_by = producers(graph.nodes)
    table: dict[Value, Value] = {}
    for node in graph.nodes:
        node.args = substitute(node.args, table)
        before = made_by.get(node.args[0]) if node.args and isinstance(node.args[0], Value) else None
        if node.op == "permute.default":
            _fold_permute(node, before, table)
        elif node.op == "elman.view":
            if before is not None and before.op == "elman.view":
                node.args = (before.args[0], node.args[1])
            if node.args[0].shape == node.outs[0].shape:
                table[node.outs[0]] = node.args[0]
        elif node.op == "expand.default" and node.args[0].shape == node.outs[0].shape:
            table[node.outs[0]] = node.args[0]
    apply(graph, table)


def _fold_permute(node: Node, before: Node | None, table: dict[Value, Value]) -> None:
    rank = len(node.outs[0].shape)
    order = [d % rank for d in node.args[1]]
    if before is not None and before.op == "permute.default":
        first = [d % rank for d in before.args[1]]
        order = [first[d] for d in order]
        node.args = (before.args[0], order)
    if order == list(range(rank)):
        table[node.outs[0]] = node.args[0]


def dead_code(graph: Graph) -> None:
    """Nothing that no output needs."""
    made_by = producers(graph.nodes)
    live = ancestors([v for role in OUTPUTS for v in getattr(graph, role)], made_by)
    graph.nodes = [node for node in graph.nodes if any(o in live for o in node.outs)]


def common_subexpressions(graph: Graph) -> None:
    """The same operation on the same values is done once (random ones never)."""
    seen: dict[str, Node] = {}
    table: dict[Value, Value] = {}
    kept = []
    for node in graph.nodes:
        node.args, node.kwargs = substitute(node.args, table), substitute(node.kwargs, table)
        key = repr((node.op, node.args, sorted(node.kwargs.items()), [o.dtype for o in node.outs]))
        twin = None if is_random(node) else seen.setdefault(key, node)
        if twin is None or twin is node:
            kept.append(node)
        else:
            table.update(zip(node.outs, twin.outs, strict=True))
    graph.nodes = kept
    apply(graph, table)


def split_products_of_cat(graph: Graph) -> None:
    """`cat(x, h) @ W` becomes `x @ W[:I] + h @ W[I:]` where one part needs the state and another does not."""
    made_by, deps, new = producers(graph.nodes), dependencies(graph), Namer(graph, "k")
    nodes: list[Node] = []
    for node in graph.nodes:
        cat = made_by.get(node.args[0]) if node.op == "mm.default" else None
        if cat is not None and cat.op == "cat.default" and _worth_splitting(node, cat, deps):
            nodes += _split_product(node, cat.args[0], new)
        else:
            nodes.append(node)
    graph.nodes = nodes


def _worth_splitting(node: Node, cat: Node, deps: dict[Value, str]) -> bool:
    parts = cat.args[0]
    dim = cat.args[1] if len(cat.args) > 1 else 0
    if node.args[0].axis != 0 or dim % 2 != 1 or node.args[1].axis is not None:
        return False
    kinds = {"s" in deps.get(p, "") for p in parts}
    return len(kinds) == 2 and "G" not in deps.get(node.outs[0], "") and "Y" not in deps.get(node.outs[0], "")


def _split_product(node: Node, parts: list[Value], new: Namer) -> list[Node]:
    weight, out = node.args[1], node.outs[0]
    nodes: list[Node] = []
    terms: list[Value] = []
    start = 0
    for part in parts:
        width = part.shape[1]
        assert isinstance(width, int)
        piece, term = new((width, weight.shape[1]), weight), new(out.shape, out)
        nodes.append(Node("slice.Tensor", (weight, 0, start, start + width), {}, (piece,), node.source))
        nodes.append(Node("mm.default", (part, piece), {}, (term,), node.source))
        terms.append(term)
        start += width
    return nodes + _sum(terms, out, new, node.source)


def _sum(terms: list[Value], out: Value, new: Namer, source: str) -> list[Node]:
    """`out = ((t0 + t1) + t2) + ...`"""
    nodes: list[Node] = []
    total = terms[0]
    for i, term in enumerate(terms[1:], start=1):
        result = out if i == len(terms) - 1 else new(broadcast_shape(total.shape, term.shape), out)
        nodes.append(Node("add.Tensor", (total, term), {}, (result,), source))
        total = result
    return nodes


def _total(terms: list[Value], out: Value, new: Namer, source: str) -> tuple[list[Node], Value]:
    """The sum of some terms of the sum `out`, and the nodes that make it."""
    if len(terms) == 1:
        return [], terms[0]
    total = new(broadcast_shape(*(t.shape for t in terms)), out)
    return _sum(terms, total, new, source), total


def push_slices_into_products(graph: Graph) -> None:
    """`(g @ W)[:, a:b]` becomes `g @ W[:, a:b]` where only slices are taken (the gradient of a split product)."""
    made_by, uses, new = producers(graph.nodes), uses_of(graph), Namer(graph, "j")
    sliced = Counter(
        node.args[0]
        for node in graph.nodes
        if node.op == "slice.Tensor" and _columns(node, made_by.get(node.args[0]))
    )
    nodes: list[Node] = []
    for node in graph.nodes:
        product = made_by.get(node.args[0]) if node.op == "slice.Tensor" else None
        if product is None or not _columns(node, product) or sliced[node.args[0]] != uses[node.args[0]]:
            nodes.append(node)
            continue
        a, weight = product.args
        piece = new((weight.shape[0], node.outs[0].shape[1]), weight)
        nodes.append(Node("slice.Tensor", (weight, *node.args[1:]), {}, (piece,), node.source))
        nodes.append(Node("mm.default", (a, piece), {}, node.outs, node.source))
    graph.nodes = nodes
    dead_code(graph)


def _columns(node: Node, product: Node | None) -> bool:
    return (
        product is not None and product.op == "mm.default" and product.args[0].axis == 0
        and product.args[1].axis is None and not product.args[1].summed and node.args[1] % 2 == 1
    )  # fmt: skip


def join_products(graph: Graph) -> None:
    """Separate gate matrices applied to the same rows become one product with slices of its result."""
    deps, new = dependencies(graph), Namer(graph, "g")
    groups: dict[tuple[Value, Size], list[Node]] = {}
    for node in graph.nodes:
        if node.op != "mm.default" or node.args[0].axis != 0 or node.args[1].axis is not None:
            continue
        if not deps.get(node.args[1], "") and not set("GY") & set(deps.get(node.outs[0], "")):
            groups.setdefault((node.args[0], node.args[1].shape[0]), []).append(node)
    place: dict[int, list[Node]] = {}
    dropped: set[int] = set()
    for group in groups.values():
        if len(group) > 1:
            place[id(group[-1])] = _join(group, new)
            dropped.update(id(n) for n in group)
    if dropped:
        graph.nodes = in_order(
            [n for n in graph.nodes if id(n) not in dropped] + [n for p in place.values() for n in p]
        )


def _join(group: list[Node], new: Namer) -> list[Node]:
    rows, first = group[0].args[0], group[0]
    widths = [n.args[1].shape[1] for n in group]
    weight = new((first.args[1].shape[0], sum(widths)), first.args[1])
    out = new((rows.shape[0], sum(widths)), first.outs[0])
    nodes = [
        Node("cat.default", ([n.args[1] for n in group], 1), {}, (weight,), first.source),
        Node("mm.default", (rows, weight), {}, (out,), first.source),
    ]
    start = 0
    for node, width in zip(group, widths, strict=True):
        nodes.append(Node("slice.Tensor", (out, 1, start, start + width), {}, node.outs, node.source))
        start += width
    return nodes


def gather_sums(graph: Graph) -> None:
    """In a sum, what does not need the state is added first, so that it leaves the loop, and what needs no row at all
    before that: `(W x + b) + (U h + c)` becomes `(W x + (b + c)) + U h`."""
    made_by, uses, deps = producers(graph.nodes), uses_of(graph), dependencies(graph)
    new = Namer(graph, "a")
    inner: set[Value] = set()
    replaced: dict[int, list[Node]] = {}
    for node in reversed(graph.nodes):
        if not _is_sum(node, deps) or node.outs[0] in inner:
            continue
        terms = _terms(node, made_by, uses, deps, inner)
        free = [t for t in terms if "s" not in deps.get(t, "")]
        bound = [t for t in terms if "s" in deps.get(t, "")]
        if len(free) >= 2 and bound and all(t.shape == node.outs[0].shape for t in bound):
            replaced[id(node)] = _gathered(free, bound, node, new)
    graph.nodes = in_order([n for node in graph.nodes for n in replaced.get(id(node), [node])])
    dead_code(graph)


def _is_sum(node: Node, deps: dict[Value, str]) -> bool:
    """A plain sum of the forward step, in the loop."""
    return _is_plain_sum(node, deps) and "s" in deps.get(node.outs[0], "")


def _is_plain_sum(node: Node, deps: dict[Value, str]) -> bool:
    if node.op != "add.Tensor" or not all(isinstance(a, Value) for a in node.args):
        return False
    letters = deps.get(node.outs[0], "")
    same = all(a.dtype == node.outs[0].dtype for a in node.args)
    return same and not set("GY") & set(letters) and node.outs[0].dtype.is_floating_point


def _terms(
    node: Node, made_by: dict[Value, Node], uses: Counter[Value], deps: dict[Value, str], inner: set[Value]
) -> list[Value]:
    terms: list[Value] = []
    for arg in node.args:
        below = made_by.get(arg)
        whole = below is not None and below.outs[0].shape == node.outs[0].shape
        if below is not None and whole and _is_plain_sum(below, deps) and uses[arg] == 1:
            inner.add(arg)
            terms += _terms(below, made_by, uses, deps, inner)
        else:
            terms.append(arg)
    return terms


def _gathered(free: list[Value], bound: list[Value], node: Node, new: Namer) -> list[Node]:
    out = node.outs[0]
    once = [v for v in free if v.axis is None]
    rows = [v for v in free if v.axis is not None]
    first, together = _total(once, out, new, node.source) if once else ([], None)
    rows += [] if together is None else [together]
    second, start = _total(rows, out, new, node.source)
    return first + second + _sum([start, *bound], out, new, node.source)


def convert_integers(graph: Graph) -> None:
    """An integer beside floats is converted where it is made, not where it is used, as torch does it: so that what is
    made of integers alone stays out of a loop of floats."""
    new = Namer(graph, "i")
    converted: dict[tuple[Value, torch.dtype], Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        kind = _common_float(node)
        args = list(node.args)
        for i, arg in enumerate(args):
            if kind is None or not isinstance(arg, Value) or not is_integer(arg.dtype):
                continue
            if (arg, kind) not in converted:
                v = converted[arg, kind] = new(arg.shape, Value("", (), kind))
                nodes.append(Node("elman.convert", (arg, kind), {}, (v,), node.source))
            args[i] = converted[arg, kind]
        node.args = tuple(args)
        nodes.append(node)
    graph.nodes = nodes


def _common_float(node: Node) -> torch.dtype | None:
    """The type that an element-wise operation reckons in, where it is a float and some argument is an integer."""
    if not is_pointwise(node) or node.op == "elman.convert":
        return None
    out = node.outs[0].dtype
    if out.is_floating_point:
        return out
    floats = {v.dtype for v in refs(node) if v.dtype.is_floating_point and v.shape}
    return floats.pop() if len(floats) == 1 and out == torch.bool else None


PASSES: list[Callable[[Graph], None]] = [
    convert_integers,
    fold_shapes,
    dead_code,
    common_subexpressions,
    split_products_of_cat,
    split_convolutions,
    push_slices_into_products,
    join_products,
    gather_sums,
    join_forward_sums,
    join_backward_products,
    join_gradients,
    join_before_turning,
    common_subexpressions,
    dead_code,
]
