"""How far long reading has come, told to whoever watches; a reader need not know who."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

__all__ = ["Watch", "told", "watched"]

T = TypeVar("T")
# What is being done, and the share of it that is.
Watch = Callable[[str, float], None]

_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Inside, `watch` is told."""
    before = _WATCH.set(watch)
    try:
        yield
    finally:
        _WATCH.reset(before)


def told(what: str, items: Iterable[T], size: Callable[[T], int], total: int) -> Iterator[T]:
    """The items as they are; total: the size of all of them, or a little more."""
    watch, done, said = _WATCH.get(), 0, 0
    for item in items:
        yield item
        done += size(item)
        if watch is not None and done - said > total // 1000:
            said = done
            watch(what, min(done / total, 1.0))
