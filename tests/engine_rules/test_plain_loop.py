"""The plain loop, which all else is held to, beside the shortest loop that can be written: drawn forms of a step."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import EngineError, Scan
from elman.engine.call.inputs import gather
from elman.engine.call.loop import plain_loop

T, B, H = 5, 3, 4


class Two(NamedTuple):
    h: Tensor
    c: Tensor


class Cell(nn.Module):
    """A cell in a drawn form."""

    def __init__(self, state: str, y: str, pair: bool, many: bool, reads_context: bool) -> None:
        super().__init__()
        self.form = (state, y, pair, many, reads_context)
        self.u, self.calls = nn.Linear(H, H).double(), 0

    def forward(self, x: Any, state: Any, *context: Tensor) -> Any:
        kind, y, pair, many, reads_context = self.form
        self.calls += 1
        first = x[0] * x[1] if many else x
        h = state if kind == "one" else state["h"] if kind == "dict" else state[0]
        new = torch.tanh(first + self.u(h)) + (context[0] if reads_context else 0)
        c = None if kind == "one" else (state["c"] if kind == "dict" else state[1]) * 0.5 + new
        after: Any = {"one": lambda: new, "two": lambda: (new, c), "list": lambda: [new, c],
                      "named": lambda: Two(new, c), "dict": lambda: {"h": new, "c": c}}[kind]()  # fmt: skip
        out = {"same": new, "view": new[:, ::2], "several": (new * 2, {"a": first}), "x": first}[y]
        return (out, after) if pair else after


def first_state(kind: str) -> Any:
    h, c = torch.randn(2, B, H, dtype=torch.float64).unbind()
    h, c = h.requires_grad_(), c.clone().requires_grad_()
    return {"one": h, "two": (h, c), "list": [h, c], "named": Two(h, c), "dict": {"h": h, "c": c}}[kind]


def by_hand(cell: Cell, x: Any, state: Any, context: Any, reverse: bool) -> tuple[Any, Any, list[Any]]:
    """y of each step in the order of time, the last state, the state after each step."""
    ys, states = [None] * T, [None] * T
    for t in reversed(range(T)) if reverse else range(T):
        out = cell(tree_map(lambda v, t=t: v[t], x), state, *([] if context is None else [context]))
        y, state = out if cell.form[2] else (tree_leaves(out)[0], out)
        ys[t], states[t] = y, state
    return ys, state, states


def stacked(trees: list[Any]) -> list[Tensor]:
    return [torch.stack(column) for column in zip(*map(tree_leaves, trees), strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    state=st.sampled_from(["one", "two", "list", "named", "dict"]),
    y=st.sampled_from(["same", "view", "several", "x"]),
    pair=st.booleans(),
    many=st.booleans(),
    reads_context=st.booleans(),
    reverse=st.booleans(),
    return_states=st.booleans(),
    training=st.booleans(),
)
def test_every_form_of_a_step(
    state: str, y: str, pair: bool, many: bool, reads_context: bool, reverse: bool, return_states: bool,
    training: bool,
) -> None:  # fmt: skip
    cell = Cell(state, y, pair, many, reads_context)
    one = torch.randn(T, B, H, dtype=torch.float64, requires_grad=True)
    x = (one, torch.randn(T, B, 1, dtype=torch.float64, requires_grad=True)) if many else one
    start = first_state(state)
    context = torch.randn(B, H, dtype=torch.float64, requires_grad=True) if reads_context else None
    with torch.set_grad_enabled(training):
        result = plain_loop(cell, x, start, context=context, reverse=reverse, return_states=return_states)
        ys, last, states = by_hand(cell, x, start, context, reverse)
    assert cell.calls == 2 * T
    got = [*tree_leaves(result.y), *tree_leaves(result.state)]
    expected = [*stacked(ys), *tree_leaves(last)]
    if return_states:
        got, expected = [*got, *tree_leaves(result.states)], [*expected, *stacked(states)]
    assert type(result.state) is type(start)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    if training:
        leaves = [t for t in (*tree_leaves((x, start)), context, *cell.parameters()) if t is not None]
        grads = [
            torch.autograd.grad(
                sum((o.sin() * (i + 1)).sum() for i, o in enumerate(outs)), leaves, allow_unused=True
            )
            for outs in (got, expected)
        ]
        zeros = [
            [torch.zeros_like(t) if g is None else g for t, g in zip(leaves, side, strict=True)]
            for side in grads
        ]
        torch.testing.assert_close(*zeros)


@pytest.mark.parametrize("x_grad", [False, True])
def test_a_step_that_writes_in_its_input(x_grad: bool) -> None:
    """Autograd takes that in a slice that is taken alone."""
    cell = nn.Linear(H, H).double()

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(x.mul_(2).add_(cell(h)))
        return h, h

    source = torch.randn(T, B, H, dtype=torch.float64, requires_grad=x_grad)
    h = torch.zeros(B, H, dtype=torch.float64)
    found = []
    for by_engine in (True, False):
        x, state, ys = source * 1, h, []
        if by_engine:
            y = plain_loop(step, x, h).y
        else:
            for t in range(T):
                out, state = step(x[t], state)
                ys.append(out)
            y = torch.stack(ys)
        wanted = [*cell.parameters(), *([source] if x_grad else [])]
        found.append([y, x, *torch.autograd.grad(y.sin().sum() + x.cos().sum(), wanted)])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_a_state_that_changes_its_shape_later() -> None:
    """At whichever step: what the loop looks at quickly, it looks at."""
    for kind in ("one", "two"):
        calls = []

        def step(x: Tensor, state: Any, kind: str = kind, calls: list[int] = calls) -> Any:
            calls.append(1)
            wider = x if len(calls) < 3 else torch.cat([x, x], 1)
            return x, wider if kind == "one" else (x, wider)

        zero = torch.zeros(B, H)
        with pytest.raises(EngineError, match=r"shape \(3, 4\) before a step of 3 rows and \(3, 8\) after"):
            plain_loop(step, torch.randn(T, B, H), zero if kind == "one" else (zero, zero))
        assert len(calls) == 3


def test_a_form_that_changes_later() -> None:
    """`next_state` at first, then `(y_t, next_state)`, then lists: each is taken as what it is."""
    forms = iter([lambda h: h, lambda h: (2 * h, h), lambda h: [3 * h, h], lambda h: (4 * h, h), lambda h: h])
    x = torch.randn(T, B, H)
    y, last, _ = plain_loop(lambda x, h: next(forms)(x + h), x, torch.zeros(B, H))
    sums = x.cumsum(0)
    torch.testing.assert_close(y, sums * torch.tensor([1.0, 2, 3, 4, 1]).view(T, 1, 1))
    torch.testing.assert_close(last, sums[-1])


def test_hooks_and_a_call_of_ones_own() -> None:
    """They are run at each step, also those that a step puts there."""
    seen: list[str] = []

    class Own(nn.Linear):
        def __call__(self, x: Tensor, h: Tensor) -> Any:
            seen.append("call")
            h = torch.tanh(self.forward(x) + h)
            return h, h

    plain_loop(Own(H, H), torch.randn(T, B, H), torch.zeros(B, H))
    assert seen == ["call"] * T

    class Hooked(nn.Module):
        def forward(self, x: Tensor, h: Tensor) -> Any:
            if not self._forward_hooks:
                self.register_forward_hook(lambda *_: seen.append("hook"))
            return x + h, x + h

    plain_loop(Hooked(), torch.randn(T, B, H), torch.zeros(B, H))
    assert seen.count("hook") == T - 1  # from the step after the one that puts it there

    cell = Cell("one", "same", True, False, False).float()
    layer = Scan(cell, backend="loop")
    cell.compile(backend="eager")
    cell._compiled_call_impl = lambda x, h: (x * 0, h)  # stands for what the compiler made
    y = layer(torch.randn(T, B, H), torch.zeros(B, H)).y
    assert not y.any()


def test_results_alias_nothing() -> None:
    """Not the given state, not y, and not the step's own tensors."""
    h = torch.randn(B, H)
    result = plain_loop(lambda x, s: (s, s), torch.randn(T, B, H), h, return_states=True)
    places = [t.untyped_storage().data_ptr() for t in (h, result.y, result.state, result.states)]
    assert len({*places}) == 4


def test_tensors_of_inference_mode_outside_of_it() -> None:
    """They have no version that could be asked for."""
    with torch.inference_mode():
        x = torch.randn(T, B, H)
    y = plain_loop(lambda x, h: (x + h, x + h), x, torch.zeros(B, H)).y
    torch.testing.assert_close(y, x.cumsum(0))


def test_a_second_call_on_the_loop_is_asked_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that differ in one thing from the one before, on the loop where it is meant: as the loop by itself, and
    where nothing differs none of the engine's own questions is asked."""

    class Step(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u = nn.Linear(3, 3)

        def forward(self, x: Tensor, h: Any, c: Tensor | None = None) -> Any:
            one = h if isinstance(h, Tensor) else h[0]
            one = torch.tanh(self.u(one) + x + (0 if c is None else c))
            return one, one if isinstance(h, Tensor) else type(h)((one, *h[1:]))

    step = Step()
    scan, asked = Scan(step, backend="loop"), list[Any]()
    monkeypatch.setattr("elman.engine.scan.gather", lambda *a: (asked.append(a), gather(*a))[1])
    x, h = torch.randn(4, 2, 3), torch.randn(2, 3)
    calls: list[tuple[tuple[Any, Any], dict[str, Any]]] = [
        ((x, h), {}),
        ((x, h), {"reverse": True}),
        ((x, h), {"context": torch.randn(2, 3)}),
        ((x, (h, h)), {}),
        ((x, [h, h]), {}),
        ((torch.randn(5, 2, 3), h), {}),
        ((x.clone().requires_grad_(), h), {}),
        ((x, h.clone().requires_grad_()), {}),
        ((x, h), {"lengths": torch.tensor([4, 1])}),
        ((x, h), {"reset": torch.rand(4, 2) < 0.5}),
        ((x, h), {"return_states": True}),
        ((x, h), {"initial_state": h}),
    ]
    for (sequence, state), options in calls:
        for again in range(3):
            before = len(asked)
            got = scan(sequence, state, **options)
            expected = plain_loop(step, sequence, state, **options)
            for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
                torch.testing.assert_close(a, b)
                assert a is None or a.requires_grad == b.requires_grad
            flat = isinstance(state, Tensor | tuple) and not {*options} - {"reverse", "context"}
            assert len(asked) == before + (again == 0 or not flat), (options, again)
            with torch.no_grad():
                step.u.weight.mul_(-1)
        assert scan.path == "loop"
    with pytest.raises(EngineError, match=r"batch of 2"):
        scan(x, torch.randn(3, 3))
    assert copy.deepcopy(scan).last is None
