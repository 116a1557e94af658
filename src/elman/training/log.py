"""The log of a run: RUN/log.jsonl, one JSON object a line.

    {"event": "start", "step": 0, "epoch": 1, "seconds": 0.0, "time": ..., "parameters": ..., "measure": ..., ...}
    {"event": "train", "step": 50, "epoch": 1, "seconds": 1.9, "loss": 2.31, "rate": 0.002, "gradient_norm": 0.8,
                       "per_second": 41000.0, "waiting": 0.002}
    {"event": "valid", "step": 400, "epoch": 1, "seconds": 15.2, "loss": 1.98, "metric": "perplexity", "score": 7.24,
                       "higher": false, "rate": 0.002, "best": true, ...}
    {"event": "sample", "step": 500, "epoch": 1, "seconds": 19.0, "texts": ["..."]}
    {"event": "resume", ...}  {"event": "stop", ..., "reason": ...}

step counts updates, loss is the mean negative log likelihood in nats, seconds the time spent in training up to there;
score is what the best model is chosen by, and higher says which way is better. A value that is no number is null.
waiting is the share of the time that went into waiting for batches.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from elman.files import read_events, write_bytes
from elman.training.board import Board
from elman.training.score import finite

__all__ = ["Log", "Unwritten", "read_log"]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log; a last line that was cut off is left out."""
    return read_events(path) if path.is_file() else []


class Log:
    """Appends events. Opened at step n, it first drops what lies behind n: that work is done once more."""

    def __init__(self, path: Path, step: int, board: Board | None = None) -> None:
        """Open the log of a training that stands at `step`; `board` gets all events too."""
        self._board = board
        if path.exists():
            kept = [event for event in read_log(path) if event.get("step", 0) <= step]
            write_bytes(path, "".join(json.dumps(event) + "\n" for event in kept).encode())
        self._file = path.open("a", encoding="utf-8")

    def write(self, event: str, **entries: Any) -> None:
        """Append a line, at once visible to readers."""
        shown = {name: finite(value) for name, value in entries.items()}
        self._file.write(json.dumps({"event": event, **shown}, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is not None:
            self._board.write(event, entries)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class Unwritten(Log):
    """The log of a process whose training another one writes down."""

    def __init__(self) -> None:
        """Open nothing."""

    def write(self, event: str, **entries: Any) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""
