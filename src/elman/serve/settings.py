"""The flags of `elman serve`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from elman.config import Count, Flag, Positive, Whole, option

__all__ = ["Serve"]

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


@dataclass(frozen=True)
class Serve:
    """Flags of `elman serve`. Limits are those of one process."""

    runs: tuple[str, ...] = option(
        (), "run folders, or frozen files of `elman export`", unit="RUN", positional=True
    )
    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 is every network", unit="ADDRESS")
    port: Port = option(8000, "port to listen on; 0 takes a free one", unit="PORT")
    name: tuple[str, ...] = option(
        (), "other names by which the server may be asked, such as that of a proxy in front", unit="NAME"
    )
    processes: Whole = option(0, "processes (0: one a core)", unit="COUNT")
    token_file: str = option("", "file with a token that every request must show", unit="FILE")
    sessions: Count = option(1024, "sessions of a model that may be open at once", unit="COUNT")
    waiting: Count = option(1024, "requests of a model that may wait at once", unit="COUNT")
    longest: Count = option(8192, "characters of a request, or steps of a message", unit="COUNT")
    length: Count = option(4096, "tokens that a request may have written", unit="TOKENS")
    body: Count = option(1 << 20, "size of a request or a message", unit="BYTES")
    timeout: Positive = option(60.0, "time that a request may take", unit="SECONDS")
    idle: Positive = option(300.0, "time after which an idle session is closed", unit="SECONDS")
    slow: Positive = option(
        10.0, "time after which a client that sends or reads nothing is cut off", unit="SECONDS"
    )
    states: str = option(
        "", "folder for the states of sessions that are closed for the client", unit="FOLDER"
    )
    keep: Count = option(10_000, "states that are kept there, at most", unit="COUNT", needs={"states": True})
    drain: Positive = option(10.0, "time that requests have to end in when the server stops", unit="SECONDS")
    widest: Count = option(32, "sessions that step together, at most", unit="ROWS")
    turn: Count = option(16, "steps of a session before others have their turn", unit="STEPS")
    allow_code: Flag = option(False, "run the code of a run's own cell, if it has one")
    checkpoint: Literal["best", "last"] = option("best", "of a run: its best model, or the last one")
