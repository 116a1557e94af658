"""Larger torch operations, written with those of the op table.

Called by the tracer below autograd: forward operations and the backward ones that autograd calls are both taken apart
here, so that few operations need a kernel.
"""

from elman.engine.decompose import activations, arithmetic, attention, norms, shapes
from elman.engine.decompose.table import DECOMPOSITIONS, library_decomposition

__all__ = [
    "DECOMPOSITIONS",
    "activations",
    "arithmetic",
    "attention",
    "library_decomposition",
    "norms",
    "shapes",
]
