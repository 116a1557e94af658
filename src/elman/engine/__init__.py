"""The engine: any recurrent step, unfolded over a sequence, forward and backward."""

from elman.engine.call.masks import Taken, taken
from elman.engine.call.surroundings import refuse_tracing
from elman.engine.checking import check
from elman.engine.errors import EngineError, EngineWarning
from elman.engine.explain import Explanation
from elman.engine.freeze import FrozenCode, FrozenStep, freeze, freeze_rows
from elman.engine.scan import Scan
from elman.engine.stream import Caller, Stepper
from elman.engine.structure import ScanResult

__all__ = [
    "Caller",
    "EngineError",
    "EngineWarning",
    "Explanation",
    "FrozenCode",
    "FrozenStep",
    "Scan",
    "ScanResult",
    "Stepper",
    "Taken",
    "check",
    "freeze",
    "freeze_rows",
    "refuse_tracing",
    "taken",
]
