"""Complex numbers while a step is traced: pairs of real tensors, so that what is recorded is real.

The core computes with real numbers. While a step is looked at, each complex tensor that it makes is a `Pair`, two real
tensors, and each function of it is written with real operations; a complex parameter is read as its two parts.
Gradients follow from these: torch's gradient of a real loss with respect to z = a + ib is dL/da + i dL/db.

Where torch multiplies a real factor as one with an imaginary part of 0, the parts are multiplied here by the real one
alone: the two differ for infinities and NaN.
"""

from elman.engine.tracing.complexes import arithmetic, fourier
from elman.engine.tracing.complexes.calls import complex_call, is_complex_call
from elman.engine.tracing.complexes.pair import EACH, RULES, Pair

BECOMES = "the step makes complex numbers of a real state"
START = "start from a complex one: initial_state gives zeros of a complex dtype"

__all__ = [
    "BECOMES",
    "EACH",
    "RULES",
    "START",
    "Pair",
    "arithmetic",
    "complex_call",
    "fourier",
    "is_complex_call",
]
