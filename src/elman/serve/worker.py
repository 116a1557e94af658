"""A thread that steps while there is something to do."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod

__all__ = ["Worker"]


class Worker(ABC):
    """What has work handed in by other threads, and does it in one of its own, from `start` to `stop`.

    steps, rows, seconds: how many steps were made, of how many rows or inputs, and how long they took.
    """

    def __init__(self) -> None:
        self.steps, self.rows, self.seconds = 0, 0, 0.0
        self._change = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @abstractmethod
    def step(self) -> int:
        """Do some of what waits; how many rows or inputs it was."""

    @abstractmethod
    def give_up(self) -> None:
        """Do no more of what waits: who asked is told that the server is going down."""

    @abstractmethod
    def _has_work(self) -> bool:
        """Whether a step has something to do; asked with `_change` held."""

    def start(self) -> None:
        """Step whenever there is work, in a thread of its own, until `stop`."""
        self._thread = threading.Thread(target=self._run, name=f"elman {type(self).__name__}", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> bool:
        """Whether the thread has ended though nobody asked it to: a fault of this program."""
        return self._thread is not None and not self._stopped and not self._thread.is_alive()

    def stop(self) -> None:
        """Take nothing new, do all that waits, and end the thread."""
        with self._change:
            self._stopped = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._has_work() or self._stopped):
                    self._change.wait()
                if not self._has_work():
                    return
            self.step()
