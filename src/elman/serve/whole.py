"""Whole inputs, such as texts to classify, answered together: first in first out, as many as wait, up to a bound."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from elman.serve.batcher import FaultError, FullError, GoneError, LateError, RefusalError
from elman.serve.worker import Worker

__all__ = ["Asked", "Whole"]


class Asked:
    """Some inputs of one request. tell: is told once, of all answers or of what went wrong, by another thread."""

    def __init__(
        self,
        inputs: Sequence[Any],
        tell: Callable[[list[Any], RefusalError | None], None],
        deadline: float = math.inf,
    ) -> None:
        self.inputs, self.tell, self.deadline = inputs, tell, deadline
        self.answers: list[Any] = []
        self.taken = 0
        self.over = False


class Whole(Worker):
    """`predict`, inputs -> an answer for each, carried out in a thread for up to `widest` inputs of all that wait.

    waiting: how many inputs may wait or be in progress. apart: those of one request at a time, which then goes to the
    end of the line: for models whose last bits depend on what stands beside an input, and that take long.
    """

    def __init__(
        self,
        predict: Callable[[list[Any]], Sequence[Any]],
        *,
        waiting: int = 1024,
        widest: int = 32,
        apart: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.predict, self.limit, self.widest, self.clock = predict, waiting, widest, clock
        self.apart = apart
        self.waiting = 0
        self._line: deque[Asked] = deque()

    def submit(self, asked: Asked) -> None:
        """Have inputs answered. FullError, GoneError."""
        with self._change:
            if self._stopped:
                raise GoneError("the server is going down")
            if self.waiting + len(asked.inputs) > self.limit:
                raise FullError(
                    f"{self.waiting} inputs wait and {len(asked.inputs)} are given; {self.limit} are allowed"
                )
            self.waiting += len(asked.inputs)
            self._line.append(asked)
            self._change.notify()

    def drop(self, asked: Asked) -> None:
        """Forget a request that nobody waits for any more."""
        with self._change:
            self._end(asked)

    def give_up(self) -> None:
        """Drop all that waits."""
        with self._change:
            dropped = list(self._line)
            for asked in dropped:
                self._end(asked)
        for asked in dropped:
            asked.tell([], GoneError("the server is going down"))

    def step(self) -> int:
        """Answer the inputs in front; how many they were."""
        with self._change:
            late = [asked for asked in self._line if asked.deadline <= self.clock()]
            for asked in late:
                self._end(asked)
            taken = self._take()
        why = LateError("the time that a request may take was over before it was done")
        for asked in late:
            asked.tell([], why)
        if taken:
            began = time.perf_counter()
            found = self._answers([value for _, value in taken])
            self._hand_out(taken, found)
            self.steps += 1
            self.rows += len(taken)
            self.seconds += time.perf_counter() - began
        return len(taken)

    def _take(self) -> list[tuple[Asked, Any]]:
        taken: list[tuple[Asked, Any]] = []
        for asked in self._line:
            while asked.taken < len(asked.inputs) and len(taken) < self.widest:
                taken.append((asked, asked.inputs[asked.taken]))
                asked.taken += 1
            if self.apart and taken:
                self._line.rotate(-1)
                break
            if len(taken) == self.widest:
                break
        return taken

    def _answers(self, inputs: list[Any]) -> list[Any]:
        """An answer or an exception for each; where one spoils it for all, each is asked alone."""
        try:
            return list(self.predict(inputs))
        except Exception as error:  # noqa: BLE001 - one request's fault is not the others'
            if len(inputs) == 1:
                return [error]
        return [answer for value in inputs for answer in self._answers([value])]

    def _hand_out(self, taken: list[tuple[Asked, Any]], found: list[Any]) -> None:
        ended: list[tuple[Asked, RefusalError | None]] = []
        with self._change:
            for (asked, _), answer in zip(taken, found, strict=True):
                if asked.over:
                    continue
                if isinstance(answer, Exception):
                    self._end(asked)
                    why = FaultError(f"the request could not be carried out: {answer}")
                    why.__cause__ = answer
                    ended.append((asked, why))
                    continue
                asked.answers.append(answer)
                if len(asked.answers) == len(asked.inputs):
                    self._end(asked)
                    ended.append((asked, None))
        for asked, said in ended:
            asked.tell([] if said else asked.answers, said)

    def _end(self, asked: Asked) -> None:
        if not asked.over:
            asked.over = True
            self.waiting -= len(asked.inputs)
            self._line.remove(asked)

    def _has_work(self) -> bool:
        return bool(self._line)
