"""Whether what a step's backward does to sums over rows, as a whole, is linear: then it is done once, on the sums over
all steps. Some of its operations are not linear by themselves (the exponential of a block matrix, in the gradient of
`matrix_exp`), so it is tried out: on random sums of several sizes, with the given parameters and with others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from elman.engine.errors import NotSupported
from elman.engine.program.execute import operation
from elman.engine.program.ops import is_random
from elman.engine.program.program import Graph, Node, Rows, Value, refs
from elman.engine.structure import leaves_of, mapped

__all__ = ["assert_linear"]

_SIZES = (1.0, 1e-3, 1e3)
_MOVES = (
    0.05,
    1e-3,
    0.0,
)  # how far from the given ones other parameters may lie: as far as all goes without an error
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


def assert_linear(graph: Graph) -> None:
    """Raise NotSupported where a part of the backward that is left open is not linear in the sums that enter it."""
    if not graph.unproved:
        return
    generator = torch.Generator().manual_seed(11)
    try:
        with torch.no_grad():
            fits = all(_is_linear(graph, move, generator) for move in (0.0, _working(graph, generator)))
    except Exception as error:
        raise _refusal(graph, f" ({type(error).__name__}: {error})") from error
    if not fits:
        raise _refusal(graph, "")


def _refusal(graph: Graph, why: str) -> NotSupported:
    node = graph.unproved[0]
    where = f" at {node.source}" if node.source else ""
    return NotSupported(
        f"{node.op} in the backward of the step is not linear in a gradient that adds up over the steps{why}{where}",
        op=node.op,
    )  # fmt: skip


def _working(graph: Graph, generator: torch.Generator) -> float:
    """How far the parameters may be moved such that the step still takes them."""
    for move in _MOVES:
        try:
            if all(bool(t.isfinite().all()) for t in _gradients(graph, move, 1.0, generator)[0]):
                return move
        except RuntimeError:
            continue
    return 0.0


def _is_linear(graph: Graph, move: float, generator: torch.Generator) -> bool:
    for size in _SIZES:
        for a, b, c in zip(*_gradients(graph, move, size, generator), strict=True):
            tolerance = _TOLERANCE.get(c.dtype, 1e-2)
            scale = max(float(t.abs().max()) if t.numel() else 0.0 for t in (a, b, c))
            if not bool(((a + 2 * b - c).abs() <= tolerance * scale).all()):
                return False
    return True


def _gradients(graph: Graph, move: float, size: float, generator: torch.Generator) -> list[list[Tensor]]:
    """What comes out for random sums u, v and u + 2 v."""

    def draw(like: Tensor | tuple[int, ...], dtype: torch.dtype) -> Tensor:
        shape = tuple(like.shape) if isinstance(like, Tensor) else like
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    known: dict[str, Any] = {}
    for i, t in enumerate(graph.externals):
        t = t.detach().cpu()
        known[f"p{i}"] = t + move * draw(t, t.dtype) if t.is_floating_point() else t
    roots = [v for n in graph.nodes if any(u.axis is not None for u in refs(n)) for v in n.outs if v.summed]
    shapes = {v.name: (tuple(n for n in v.shape if isinstance(n, int)), v.dtype) for v in roots}
    first, second = ({name: size * draw(*kind) for name, kind in shapes.items()} for _ in range(2))
    both = {name: u + 2 * second[name] for name, u in first.items()}
    wanted = _following(graph)
    return [_run(graph.nodes, known | sums, wanted) for sums in (first, second, both)]


def _following(graph: Graph) -> list[Value]:
    """Gradients of parameters that depend on what is left open."""
    found = {out for node in graph.unproved for out in node.outs}
    for node in graph.nodes:
        if any(v in found for v in refs(node)):
            found.update(node.outs)
    return [v for v in graph.dp if v is not None and v in found]


def _run(nodes: list[Node], known: dict[str, Any], wanted: list[Value]) -> list[Tensor]:
    for node in nodes:
        made = any(o.name in known for o in node.outs)
        if made or is_random(node) or _has_rows((node.args, node.kwargs, node.outs)):
            continue
        if all(v.name in known for v in refs(node)):
            found = operation(node.op)(*_filled(node.args, known), **_filled(node.kwargs, known))
            found = found if isinstance(found, tuple | list) else (found,)
            known.update(zip((o.name for o in node.outs), found, strict=False))
    return [known[v.name] for v in wanted]


def _filled(tree: Any, known: dict[str, Any]) -> Any:
    return mapped(tree, lambda leaf: known[leaf.name] if isinstance(leaf, Value) else leaf)


def _has_rows(tree: Any) -> bool:
    return any(
        leaf.axis is not None if isinstance(leaf, Value) else isinstance(leaf, Rows)
        for leaf in leaves_of(tree)
    )
