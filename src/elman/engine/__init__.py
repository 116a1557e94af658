"""The engine: any recurrent step, unfolded over a sequence, forward and backward."""

from elman.engine.checking import check
from elman.engine.errors import EngineError, EngineWarning
from elman.engine.explain import Explanation
from elman.engine.masks import Taken, taken
from elman.engine.scan import Scan
from elman.engine.stream import Caller, Stepper
from elman.engine.structure import ScanResult
from elman.engine.surroundings import refuse_tracing

__all__ = [
    "Caller",
    "EngineError",
    "EngineWarning",
    "Explanation",
    "Scan",
    "ScanResult",
    "Stepper",
    "Taken",
    "check",
    "refuse_tracing",
    "taken",
]
