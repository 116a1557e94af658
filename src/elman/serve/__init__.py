"""A model behind a port: `elman serve RUN...` (docs/serving.md).

    batcher.py    many streams of one model, stepped together; knows no web
    works.py      what a session asks for: rows of numbers

Runs on `elman.runtime`: a frozen file is served without torch.
"""

from __future__ import annotations

from elman.serve.batcher import (
    Batcher,
    BusyError,
    FaultError,
    FullError,
    GoneError,
    LateError,
    RefusalError,
    Session,
    Work,
)

__all__ = [
    "Batcher",
    "BusyError",
    "FaultError",
    "FullError",
    "GoneError",
    "LateError",
    "RefusalError",
    "Session",
    "Work",
]
