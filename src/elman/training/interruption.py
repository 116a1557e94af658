"""Ctrl-C and SIGTERM: the first one asks a training to stop and save, the second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interruption"]


class Interruption:
    """Set by Ctrl-C or SIGTERM; a second one ends the process at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        """Nothing has come yet; `say` tells the user what a signal does."""
        self.asked = False
        self._say = say

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        self._say("stopping after this step, to save; once more stops at once")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside the block; only the main thread can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        old = {number: signal.signal(number, self._take) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
