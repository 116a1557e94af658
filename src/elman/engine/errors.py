"""What the engine raises and warns with."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["LACKING", "EngineError", "EngineWarning", "NotSupported", "user_level"]


LACKING = (
    "other torch operations in this place; or leave the cell as it is, nothing is wrong with it: backend='loop' says "
    "that the loop is meant"
)
_HERE = f"{Path(__file__).parents[1]}/"


class EngineError(RuntimeError):
    """A call that cannot be carried out; the message says what was given, what was expected and how to mend it."""


class EngineWarning(UserWarning):
    """A cell runs slower than it could (on the plain loop, traced at every call); the message says why, with the op and
    the source line, and what to write instead."""


class NotSupported(Exception):  # noqa: N818 - it is a reason, not a failure: the plain loop answers instead
    """Why a cell, or a part of it, is outside the rules of the fast path.

    `reason` is one sentence, `hint` says what to write instead, `op` names the operation where there is one.
    """

    def __init__(self, reason: str, *, hint: str = "", op: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint or LACKING
        self.op = op

    def again(self) -> NotSupported:
        """The same reason, to be kept and raised later: an exception that is raised anew keeps the frames, and so the
        tensors, of every time that it was raised."""
        return NotSupported(self.reason, hint=self.hint, op=self.op)


def user_level() -> int:
    """How many frames up the caller of the library is, for warnings."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_HERE) or "/torch/" in frame.f_code.co_filename
    ):
        frame, level = frame.f_back, level + 1
    return level
