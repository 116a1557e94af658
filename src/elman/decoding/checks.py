"""What may be asked of a draw."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["check_options"]


def check_options(size: int, temperature: float, top_k: int, top_p: float, banned: Sequence[int]) -> None:
    """ValueError unless something can be drawn from `size` numbers with these options."""
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is below 0")
    if top_k < 0:
        raise ValueError(f"top_k {top_k} is below 0; 0 keeps all")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p} is outside (0, 1]; 1 keeps all")
    if len(set(banned)) >= size:
        raise ValueError(f"all {size} numbers are banned")
