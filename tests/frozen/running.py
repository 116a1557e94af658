"""A layer frozen, and run in all manners beside the layer itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from elman.frozen import frozen_bytes
from elman.runtime import Frozen

T, B = 6, 3


def numbers(tree: Any) -> list[np.ndarray]:
    """The leaves as arrays."""
    return [] if tree is None else [leaf.detach().numpy() for leaf in tree_leaves(tree)]


def tuple_of(y: Any) -> tuple[np.ndarray, ...]:
    return y if isinstance(y, tuple) else (y,)


def assert_same(found: Any, expected: Any, what: str) -> None:
    """Bit for bit, NaN for NaN."""
    found, expected = list(found), list(expected)
    assert len(found) == len(expected), what
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        b = b.reshape(a.shape)
        assert a.dtype == b.dtype, f"{what} {i}: {a.dtype}, not {b.dtype}"
        assert np.array_equal(a.view(f"i{a.itemsize}"), b.view(f"i{b.itemsize}")), (
            f"{what} {i} differs by at most {np.nanmax(np.abs(a - b))}"
        )


def swapped(tree: Any, batch_first: bool) -> Any:
    return tree_map(lambda v: v.transpose(0, 1).contiguous(), tree) if batch_first else tree


@torch.no_grad()
def assert_runs_alike(layer: Any, x: Any, context: Any = None, check: Any = assert_same) -> Frozen:
    """Whole sequences, with lengths, and where it can step by step, by rows and from a given state."""
    layer.eval()
    keywords = {} if context is None else {"context": context}
    frozen = Frozen(frozen_bytes(layer, example=swapped(x, layer.batch_first), context=context))
    xs, given = numbers(x), numbers(context)

    def called(**options: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
        y, state = layer(swapped(x, layer.batch_first), **keywords, **options)
        return numbers(swapped(y, layer.batch_first)), states_in_order(layer, state)

    y, final = called()
    result = frozen.run(*xs, context=given)
    check(tuple_of(result.y), y, "y")
    check(result.state, final, "the final state")

    lengths = torch.tensor([4, 6, 1])
    y, final = called(lengths=lengths)
    result = frozen.run(*xs, lengths=lengths.numpy(), context=given, threads=2)
    check(tuple_of(result.y), y, "y with lengths")
    check(result.state, final, "the final state with lengths")
    if frozen.can_step:
        assert_steps(frozen, xs, given)
    return frozen


def assert_steps(frozen: Frozen, xs: list[np.ndarray], given: list[np.ndarray]) -> None:
    """Step by step, some rows at a time, and in pieces, the same bits as the whole."""
    y, final = frozen.run(*xs, context=given)
    stream = frozen.stream(B, context=given)
    steps = [tuple_of(stream(*[v[t] for v in xs])) for t in range(T)]
    assert_same([np.stack(column) for column in zip(*steps, strict=True)], tuple_of(y), "y step by step")
    assert_same(stream.state, final, "the state of the stream")

    stream.reset()
    own = [[np.zeros_like(v[:, b]) for v in tuple_of(y)] for b in range(B)]
    done = [0] * B
    for rows in ([2], [0, 2], [1], [2, 1, 0], [1, 0], [0, 1, 2], [2, 0], [0, 1], [1, 2], [1, 0, 2], [0], [1]):
        rows = [r for r in rows if done[r] < T]
        if not rows:
            continue
        got = tuple_of(stream.step_rows(rows, *[np.stack([v[done[r], r] for r in rows]) for v in xs]))
        for k, r in enumerate(rows):
            for leaf, value in zip(own[r], got, strict=True):
                leaf[done[r]] = value[k]
            done[r] += 1
    for b in range(B):
        assert_same(
            [v[: done[b]] for v in own[b]], [v[: done[b], b] for v in tuple_of(y)], f"row {b} by itself"
        )
    assert min(done) > 3

    start = frozen.run(*[v[:2] for v in xs], context=given).state
    rest = frozen.run(*[v[2:] for v in xs], context=given, state=start)
    assert_same(tuple_of(rest.y), [v[2:] for v in tuple_of(y)], "y of the second piece")
    stream.state = start
    kept = stream.row(1)
    assert_same(tuple_of(stream(*[v[2] for v in xs])), [v[2] for v in tuple_of(y)], "y after a state was set")
    alone = frozen.stream(1, context=[c[1:2] for c in given])
    alone.set_row(0, kept)
    assert_same(
        tuple_of(alone(*[v[2, 1:2] for v in xs])), [v[2, 1:2] for v in tuple_of(y)], "y in another stream"
    )


def states_in_order(layer: Any, state: Any) -> list[np.ndarray]:
    """The states of each layer and direction, one behind the other, as a frozen model has them."""
    from elman.nn.layout import Sequences

    like = next(layer.parameters(), torch.zeros(()))
    rows = Sequences(torch.zeros(1, B, 1, dtype=like.dtype), None, None, False, True, None)
    return numbers(layer._starts(state, rows, "state"))


def spread(layer: Any) -> Any:
    """Biases and gains that are not zero and one."""
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.empty_like(p).uniform_(-0.3, 0.3))
    return layer


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, dtype=dtype)
