"""Convolutions within a row, sorted: what needs the state apart from what does not, and each gradient by itself.

A ConvLSTM convolves `cat(x, h)`. A convolution is linear in its channels, so the part over x leaves the loop; the
gradients of the weights are one convolution over all T·B rows behind it, as those of a matrix are one product.
"""

from __future__ import annotations

from elman.engine.lowering.graphs import Namer, dependencies, in_order, producers, uses_of
from elman.engine.program.program import Graph, Node, Value

__all__ = ["split_convolutions"]

_FORWARD, _BACKWARD = "convolution.default", "convolution_backward.default"
_WEIGHT, _BIAS = 1, 2  # places in the arguments of a convolution
_TRANSPOSED, _GROUPS = 6, 8
_MASK = 10  # which gradients are asked for: of the input, of the weight, of the bias
_Part = tuple[int, int, Value]


def split_convolutions(graph: Graph) -> None:
    """Gradients of a convolution one by one; one of `cat(x, h)` as two, where one of them needs no state."""
    _gradients_apart(graph)
    _slices_of_gradients(graph)
    _channels_apart(graph)


def _gradients_apart(graph: Graph) -> None:
    """The gradient of the input belongs to the loop, those of weight and bias are sums over all rows."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op != _BACKWARD or not node.args[_MASK][0] or len(node.outs) < 2:
            nodes.append(node)
            continue
        of_input, rest = [True, False, False], [False, *node.args[_MASK][1:]]
        before, after = node.args[:_MASK], node.args[_MASK + 1 :]
        nodes.append(Node(_BACKWARD, (*before, of_input, *after), {}, node.outs[:1], node.source))
        nodes.append(Node(_BACKWARD, (*before, rest, *after), {}, node.outs[1:], node.source))
    graph.nodes = nodes


def _slices_of_gradients(graph: Graph) -> None:
    """The gradient of `cat(x, h)`, of which x and h take their slices, is made slice by slice."""
    made_by, uses, new = producers(graph.nodes), uses_of(graph), Namer(graph, "cb")
    taken: dict[Value, list[tuple[Node, Value]]] = {}
    for node in graph.nodes:
        back = made_by.get(node.args[0]) if node.op == "slice.Tensor" else None
        if back is None or back.op != _BACKWARD or back.args[_MASK] != [True, False, False]:
            continue
        x = back.args[1]
        for start, stop, part in _parts(made_by.get(x), back.args[2], back.args[7], back.args[9]):
            if node.args[1:] == (1, start, stop) and part.shape == node.outs[0].shape:
                taken.setdefault(node.args[0], []).append((node, part))
    apart: dict[int, list[Node]] = {}
    for whole, slices in taken.items():
        if uses[whole] != len(slices):
            continue
        back = made_by[whole]
        for node, part in slices:
            _, _, start, stop = node.args
            cut, piece = _channels(back.args[2], start, stop, back.args[7], new, node.source)
            args = (back.args[0], part, piece, *back.args[3:])
            apart[id(node)] = [cut, Node(_BACKWARD, args, {}, node.outs, node.source)]
        apart[id(back)] = []
    graph.nodes = in_order([n for node in graph.nodes for n in apart.get(id(node), [node])])


def _channels_apart(graph: Graph) -> None:
    made_by, deps, new = producers(graph.nodes), dependencies(graph), Namer(graph, "cf")
    nodes: list[Node] = []
    for node in graph.nodes:
        parts: list[_Part] = []
        if node.op == _FORWARD and not set("GY") & set(deps.get(node.outs[0], "")):
            args = node.args
            parts = _parts(made_by.get(args[0]), args[_WEIGHT], args[_TRANSPOSED], args[_GROUPS])
        if len({"s" in deps.get(part, "") for *_, part in parts}) < 2:
            nodes.append(node)
        else:
            nodes += _sum_of_parts(node, parts, deps, new)
    graph.nodes = nodes


def _sum_of_parts(node: Node, parts: list[_Part], deps: dict[Value, str], new: Namer) -> list[Node]:
    """A convolution for each part of the channels; the bias with those that leave the loop."""
    parts = sorted(parts, key=lambda p: "s" in deps.get(p[2], ""))
    out, nodes, total = node.outs[0], [], None
    for i, (start, stop, part) in enumerate(parts):
        cut, piece = _channels(node.args[_WEIGHT], start, stop, node.args[_TRANSPOSED], new, node.source)
        term = new(out.shape, out)
        bias = node.args[_BIAS] if i == 0 else None
        nodes += [cut, Node(_FORWARD, (part, piece, bias, *node.args[3:]), {}, (term,), node.source)]
        if total is not None:
            result = out if i == len(parts) - 1 else new(out.shape, out)
            nodes.append(Node("add.Tensor", (total, term), {}, (result,), node.source))
            term = result
        total = term
    return nodes


def _parts(cat: Node | None, weight: Value, transposed: bool, groups: int) -> list[_Part]:
    """The parts that a convolution's input is put together from along its channels, each with its place; none where it
    is not so, or where the channels are not summed over as a whole."""
    if cat is None or cat.op != "cat.default" or groups != 1:
        return []
    rank = len(cat.outs[0].shape)
    dim = (cat.args[1] if len(cat.args) > 1 else 0) % rank
    values: list[Value] = cat.args[0]
    if dim != 1 or rank != len(weight.shape) or any(v.axis != 0 or len(v.shape) != rank for v in values):
        return []
    parts, start = [], 0
    for v in values:
        width = v.shape[1]
        if not isinstance(width, int) or v.dtype != cat.outs[0].dtype:
            return []
        parts.append((start, start + width, v))
        start += width
    return parts if start == weight.shape[0 if transposed else 1] else []


def _channels(
    weight: Value, start: int, stop: int, transposed: bool, new: Namer, source: str
) -> tuple[Node, Value]:
    """The weights of some of the channels that come in."""
    dim = 0 if transposed else 1
    shape = [stop - start if d == dim else n for d, n in enumerate(weight.shape)]
    piece = new(shape, weight)
    return Node("slice.Tensor", (weight, dim, start, stop), {}, (piece,), source), piece
