"""Floating-point operations of a program, for torch's counter (`torch.utils.flop_counter.FlopCounterMode`).

The counter sees what goes through the dispatcher, and the core's products do not. A run under a counter is therefore
hidden from it, with what torch does meanwhile, and told as one operator, `elman::products`, whose formula is the number
of the whole. Counted is what torch counts, by its own formulas: matrix products and convolutions, an addition and a
multiplication being two; not what is elementwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import flop_registry, register_flop_formula

from elman.engine.program.program import Node, Program, Rows, Value

__all__ = ["BACKWARD", "FORWARD", "counted", "counts_flops", "flops", "told"]

FORWARD = ("static", "context", "hoisted", "loop", "trailing")
BACKWARD = ("pre", "loop_back", "post", "final")
_OF_THE_BATCH = ("context", "final")
_MASKED = torch.ops.aten.convolution_backward  # its last argument says which results there are

torch.library.define("elman::products", "(int flops) -> ()")


@torch.library.impl("elman::products", "CompositeExplicitAutograd")
def _products(flops: int) -> None:
    """Nothing: the run itself has done them."""


@register_flop_formula(torch.ops.elman.products)
def _formula(flops: int, **_: Any) -> int:
    return flops


def flops(program: Program, sections: Sequence[str], rows: int, B: int) -> int:
    """What these sections of a program take for so many rows (of all steps together) of a batch of B."""
    return sum(
        _of_node(node, B if name in _OF_THE_BATCH else rows)
        for name in sections
        for node in program.sections[name].nodes
    )


def _of_node(node: Node, rows: int) -> int:
    if not node.op.endswith((".default", ".dtype")) or node.op.startswith("elman."):
        return 0
    packet = getattr(torch.ops.aten, node.op.partition(".")[0], None)
    formula = flop_registry.get(packet)
    if formula is None:
        return 0
    args = [_shape(a, rows) for a in node.args]
    made = iter([_shape(o, rows) for o in node.outs])
    outs = [next(made) if there else None for there in args[-1]] if packet is _MASKED else list(made)
    return int(formula(*args, **node.kwargs, out_val=outs[0] if len(outs) == 1 else tuple(outs)))


def _shape(argument: Any, rows: int) -> Any:
    """The shape of a value, any other argument as it is: what torch's formulas take."""
    if isinstance(argument, Value):
        return torch.Size([n.factor * rows if isinstance(n, Rows) else n for n in argument.shape])
    return argument


def counts_flops(mode: object) -> bool:
    """Whether a mode of the dispatcher is torch's counter, which leaves all results as they are."""
    return type(mode).__module__ == "torch.utils.flop_counter"


def counted() -> bool:
    """Whether a counter is on."""
    on = torch._C._len_torch_dispatch_stack() > 0
    return on and any(map(counts_flops, _get_current_dispatch_mode_stack()))


@contextmanager
def told(program: Program, sections: Sequence[str], rows: int, B: int) -> Iterator[None]:
    """A run of these sections under a counter: it is told what the run takes, and sees nothing of it."""
    torch.ops.elman.products(flops(program, sections, rows, B))
    with _disable_current_modes():
        yield
