"""The engine: any recurrent step, unfolded over a sequence, forward and backward."""

from elman.engine.call.masks import Taken, taken
from elman.engine.call.surroundings import refuse_tracing
from elman.engine.checking import check
from elman.engine.entropy import LogitBlock, RowScales, empty_rows, in_memory
from elman.engine.errors import EngineError, EngineWarning
from elman.engine.explain import Explanation
from elman.engine.freeze import FrozenCode, FrozenStep, freeze, freeze_rows
from elman.engine.packed import PackedScan
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
    "LogitBlock",
    "PackedScan",
    "RowScales",
    "Scan",
    "ScanResult",
    "Stepper",
    "Taken",
    "check",
    "empty_rows",
    "freeze",
    "freeze_rows",
    "in_memory",
    "refuse_tracing",
    "taken",
]
