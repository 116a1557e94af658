"""What a user can mend, said in a sentence. Every other module may import this one; it needs nothing."""

from __future__ import annotations

import difflib
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["UserError", "check_regular", "nearest"]


class UserError(Exception):
    """Something the user can mend: shown as one line without a traceback, exit code 2."""


def nearest(word: str, words: Iterable[str], *, form: str = "{}") -> str:
    """`; did you mean X?` where a known word is close to the given one, else nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.7)
    return f"; did you mean {form.replace('{}', close[0])}?" if close else ""


def check_regular(path: Path) -> None:
    """Raise UserError for a pipe, a socket or a device: reading it might never end, and nothing can be read twice."""
    mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise UserError(f"{path} is {kind}, not a file: write what comes from it to a file and name that")
