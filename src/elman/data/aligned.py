r"""Two files whose lines belong together: split at \n only, as many on both sides, and where that stops if it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from elman.config import UserError
from elman.data.account import Account, Place
from elman.data.encoding import decode, read_bytes

__all__ = ["check_counts", "drift", "newline_lines", "read_lines"]

Ints = npt.NDArray[np.int64]

# How many missing lines the place is looked for with; of more only the first so many.
MOST_MISSING = 50
SHORT = 2.0
# What a place has to gain before a line is taken for missing there.
JUMP = 1.5


def newline_lines(text: str) -> list[str]:
    r"""The lines between \n, and at nothing else: a \r, a U+2028 or a form feed inside of a line is a part of it.

    A \r at a line's end belongs to that end. The last line may lack its \n.
    """
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_lines(path: Path, account: Account, encoding: str = "auto") -> list[str]:
    """The lines of a file; what was recognized of its encoding is noted."""
    found = decode(read_bytes(path), str(path), encoding)
    if found.encoding != "utf-8":
        account.found.append(f"{path}: {found.encoding}")
    if found.odd:
        account.remark("not UTF-8, read as cp1252", [Place(str(path), line) for line in found.odd])
    return newline_lines(found.text)


def check_counts(left: Path, right: Path, a: list[str], b: list[str]) -> None:
    """Raise UserError where two files have not as many lines, with the first line where their lengths disagree."""
    if len(a) == len(b):
        return
    line = drift([len(text) for text in a], [len(text) for text in b])
    longer, shorter = (left, right) if len(a) > len(b) else (right, left)
    near = (
        f"from about line {line + 1:,} on the lengths of the lines no longer agree: look there for a line that is "
        f"missing in {shorter.name}, or one too many in {longer.name}"
    )
    if line >= min(len(a), len(b)):
        near = f"{longer.name} goes on where {shorter.name} ends"
    raise UserError(
        f"{left} has {len(a):,} lines, {right} has {len(b):,}: line by line they would be translations of each other; "
        f"{near}"
    )


def drift(a: list[int], b: list[int]) -> int:
    """The line (from 0) at which the shorter side has lost its first line, as the lengths of the lines tell.

    Lines i and i + k are compared by |log of their lengths' quotient - its median|; k grows from 0 where that makes the
    whole sum least, at most to the difference of the counts, and not without a gain: what is missing may be the end.
    """
    if len(a) < len(b):
        a, b = b, a
    n, missing = len(b), min(len(a) - len(b), MOST_MISSING)
    if n == 0:
        return 0
    long, short = (np.log(np.array(side, dtype=np.float64) + SHORT) for side in (a, b))
    middle = float(np.median(long) - np.median(short))
    costs = [np.abs(long[k : k + n] - short - middle) for k in range(missing + 1)]
    sums = [np.concatenate(([0.0], np.cumsum(cost))) for cost in costs]
    # best[i]: the least cost of the first i lines, the shift being k behind them; since[k][i]: where it became k.
    best, since = sums[0], [np.zeros(n + 1, dtype=np.int64)]
    ends = [float(best[n])]
    for total in sums[1:]:
        gain = best - total + JUMP
        least = np.minimum.accumulate(gain)
        places = np.maximum.accumulate(np.where(gain <= least, np.arange(n + 1), 0))
        best = total + least
        since.append(places)
        ends.append(float(best[n]))
    end = n
    for places in reversed(since[1 : int(np.argmin(ends)) + 1]):
        end = int(places[end])
    return end
