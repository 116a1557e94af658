"""Elman: recurrent networks for PyTorch.

Layers (`elman.nn`), the engine below them (`elman.engine`), and models that train and run from one command:
`elman train language-model`. Importing this package is light: torch comes in with the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from elman.engine import Scan, check
    from elman.frozen import export
    from elman.nn import GRU, LSTM, RNN, Recurrent
    from elman.tasks.base import load

__version__ = "0.1.0"

__all__ = ["GRU", "LSTM", "RNN", "Recurrent", "Scan", "__version__", "check", "export", "load"]

_HOMES = {
    "GRU": "elman.nn",
    "LSTM": "elman.nn",
    "RNN": "elman.nn",
    "Recurrent": "elman.nn",
    "Scan": "elman.engine",
    "check": "elman.engine",
    "export": "elman.frozen",
    "load": "elman.tasks.base",
}
_PACKAGES = {
    "config",
    "data",
    "decoding",
    "engine",
    "frozen",
    "metrics",
    "nn",
    "onnx",
    "plots",
    "tasks",
    "training",
}


def __getattr__(name: str) -> Any:
    """Bring in a name, or a subpackage, when it is first used (PEP 562)."""
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in _PACKAGES:
        value = import_module(f"elman.{name}")
    else:
        raise AttributeError(f"module 'elman' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """All names, the lazy ones too."""
    return sorted({*globals(), *__all__, *_PACKAGES})
