"""Tokens in files: mapped into memory, gone through block by block, and let go of.

The pages of a map that were read count as memory of the process until the system wants them back, or until they are
let go of; they are read again from the file, or from what the system still has of it.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SPAN", "Tokens", "blocks", "count", "let_go", "opened", "smallest"]

Tokens = npt.NDArray[np.integer]

# Tokens of a block.
SPAN = 1 << 20


def smallest(size: int) -> np.dtype[Any]:
    """The smallest type of numbers for a vocabulary of `size`."""
    fits = (kind for kind in (np.uint8, np.uint16) if size <= np.iinfo(kind).max + 1)
    return np.dtype(next(fits, np.int32))


def opened(path: Path, dtype: npt.DTypeLike, length: int) -> Tokens:
    """The tokens of a file. Raises OSError where there is none, ValueError where it holds more or fewer."""
    if path.stat().st_size != length * np.dtype(dtype).itemsize:
        raise ValueError(f"{path} does not hold {length:,} tokens")
    if not length:
        return np.zeros(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", shape=(length,)))


def blocks(tokens: Tokens, span: int = SPAN) -> Iterator[tuple[int, Tokens]]:
    """All tokens, `span` at a time, each block with the place of its first; those gone through are let go of."""
    for first in range(0, len(tokens), span):
        yield first, tokens[first : first + span]
        let_go(tokens)


def count(tokens: Tokens, token: int) -> int:
    """How often a token occurs."""
    return sum(int((block == token).sum()) for _, block in blocks(tokens))


def let_go(tokens: Any) -> None:
    """Let go of the pages that were read, where the tokens lie in a file; they are read again when they are used."""
    while tokens is not None and not isinstance(tokens, mmap.mmap):
        tokens = getattr(tokens, "base", None)
    if tokens is not None and hasattr(mmap, "MADV_DONTNEED"):
        tokens.madvise(mmap.MADV_DONTNEED)
