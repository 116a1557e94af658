"""Larger torch operations, written with those of the op table.

Called by the tracer below autograd: forward operations and the backward ones that autograd calls are both taken apart
here, so that few operations need a kernel.
"""

from elman.engine.tracing.decompose import activations, angles, arithmetic, attention, indexing, norms, shapes
from elman.engine.tracing.decompose.attention import multi_head_attention
from elman.engine.tracing.decompose.indexing import BY_NUMBERS
from elman.engine.tracing.decompose.numbered import Numbered
from elman.engine.tracing.decompose.pooling import POOLS, pool
from elman.engine.tracing.decompose.table import DECOMPOSITIONS, library_decomposition
from elman.engine.tracing.decompose.whole import WHOLE

__all__ = [
    "BY_NUMBERS",
    "DECOMPOSITIONS",
    "POOLS",
    "WHOLE",
    "Numbered",
    "activations",
    "angles",
    "arithmetic",
    "attention",
    "indexing",
    "library_decomposition",
    "multi_head_attention",
    "norms",
    "pool",
    "shapes",
]
