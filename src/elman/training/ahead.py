"""The next batch is made while the step runs, where making one takes time: decoding of sound, pictures, video."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

__all__ = ["Ahead", "Waiting"]

# A batch that is made faster than this is not worth a thread.
SLOW = 0.001


class _Made(NamedTuple):
    """A batch, and the seconds that it took."""

    batch: Any
    seconds: float


class Ahead:
    """Batches by (epoch, index), the next one made ahead. It changes when a batch is made, never what is in it."""

    def __init__(self, batches: Callable[[int, int], Any], epoch_steps: int) -> None:
        """Take what makes a batch, and how many there are in an epoch."""
        self._batches, self._epoch_steps = batches, epoch_steps
        self._threads: ThreadPoolExecutor | None = None
        self._next: tuple[tuple[int, int], Future[_Made]] | None = None
        # Seconds that the training has waited for batches.
        self.waited = 0.0
        # Whether a batch has been worth a thread.
        self.slow = False

    def __call__(self, epoch: int, index: int) -> Any:
        """The batch; an error in making it comes here."""
        begun = time.monotonic()
        ready, self._next = self._next, None
        known = ready is not None and ready[0] == (epoch, index)
        made = ready[1].result() if ready and known else self._make(epoch, index)
        self.waited += time.monotonic() - begun
        if made.seconds > SLOW:
            self._begin(epoch, index + 1) if index + 1 < self._epoch_steps else self._begin(epoch + 1, 0)
        return made.batch

    def _begin(self, epoch: int, index: int) -> None:
        self._threads = self._threads or ThreadPoolExecutor(1, "batches")
        self.slow = True
        self._next = (epoch, index), self._threads.submit(self._make, epoch, index)

    def _make(self, epoch: int, index: int) -> _Made:
        begun = time.monotonic()
        return _Made(self._batches(epoch, index), time.monotonic() - begun)


class Waiting:
    """What share of the steps' time since the last note went into waiting for batches."""

    def __init__(self) -> None:
        """Nothing has been noted."""
        self._noted = 0.0, 0.0

    def __call__(self, stepping: float, learner: Any) -> str:
        """Take the seconds in steps so far; words for a note, empty where batches are not made ahead."""
        before, self._noted = self._noted, (stepping, learner.waited)
        passed = stepping - before[0]
        slow = passed > 0 and getattr(learner, "slow", False)
        return f"  waiting {(learner.waited - before[1]) / passed:.1%}" if slow else ""
