"""Masks with holes and padding on any side: each row takes its steps as in a loop with an `if`."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import elman.nn as en
from elman.engine import EngineError, Scan
from nn import by_hand
from nn.by_hand import FAST, assert_same, leaves, weights_of
from tolerances import assert_near

DOUBLE = torch.float64
B, I, H = 4, 3, 4
STEPS = {"RNN": by_hand.rnn_step, "LSTM": by_hand.lstm_step, "GRU": by_hand.gru_step}


def row_by_row(
    step: by_hand.Step, x: Tensor, start: Sequence[Tensor], mask: Tensor, reset: Tensor | None,
    target: Sequence[Tensor] | None, reverse: bool,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:  # fmt: skip
    """y, final states and the states of all steps, zeros where no step is taken."""
    T = x.shape[0]
    target = [torch.zeros_like(s) for s in start] if target is None else target
    rows, finals = [], []
    for b in range(x.shape[1]):
        state, after = tuple(s[b : b + 1] for s in start), []
        waiting = begun = False
        for t in reversed(range(T)) if reverse else range(T):
            mark = t + 1 if reverse else t
            if reset is not None and mark < T and reset[mark, b] and (begun or not reverse):
                waiting = True
            if not mask[t, b]:
                after.append(None)
                continue
            if waiting:
                state, waiting = tuple(s[b : b + 1] for s in target), False
            y, state = step(x[t, b : b + 1], state)
            begun = True
            after.append((y, *state))
        rows.append(after[::-1] if reverse else after)
        finals.append(state)
    widths = [v.shape[1] for v in (start[0], *start)]
    steps = [
        torch.stack([
            torch.cat([x.new_zeros(1, width) if r[t] is None else r[t][i] for r in rows]) for t in range(T)
        ])
        for i, width in enumerate(widths)
    ]  # fmt: skip
    return steps[0], tuple(torch.cat(column) for column in zip(*finals, strict=True)), tuple(steps[1:])


def stack_by_hand(layer: Any, x: Tensor, hx: Any, mask: Tensor, reset: Any, target: Any) -> Any:
    finals, histories, k = [], [], 0
    parts = [None if v is None else v if isinstance(v, tuple) else (v,) for v in (hx, target)]
    for i in range(layer.num_layers):
        ways = []
        for suffix in ("", "_reverse")[: layer.num_directions]:
            step = STEPS[type(layer).__name__](weights_of(layer, f"_l{i}{suffix}"))
            start, to = (None if p is None else [s[k] for s in p] for p in parts)
            assert start is not None
            y, final, states = row_by_row(step, x, start, mask, reset, to, bool(suffix))
            ways.append(y)
            finals.append(final)
            histories.append(states)
            k += 1
        y = torch.cat(ways, 2)
        x = x + y if layer.residual and i > 0 else y
    joined = [[torch.stack(c) for c in zip(*columns, strict=True)] for columns in (finals, histories)]
    state, states = (tuple(c) if len(c) > 1 else c[0] for c in joined)
    return x, state, states


MASKS = st.sampled_from(["holes", "left", "right", "both", "none", "all", "checker", "one step"])


def mask_of(kind: str, T: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(0, T + 1, (B,), generator=generator)
    stop = torch.randint(0, T + 1, (B,), generator=generator)
    t = torch.arange(T).unsqueeze(1)
    kinds = {
        "holes": torch.rand(T, B, generator=generator) < 0.6, "left": t >= start, "right": t < stop,
        "both": (t >= torch.minimum(start, stop)) & (t < torch.maximum(start, stop)),
        "none": torch.zeros(T, B, dtype=torch.bool), "all": torch.ones(T, B, dtype=torch.bool),
        "checker": ((t + torch.arange(B)) % 2 == 0), "one step": t == start,
    }  # fmt: skip
    return kinds[kind]


@settings(max_examples=16)
@given(
    kind=st.sampled_from(("RNN", "LSTM", "GRU")),
    marks=MASKS,
    T=st.sampled_from((1, 4, 6)),
    seed=st.integers(0, 99),
    num_layers=st.sampled_from((1, 1, 2)),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    residual=st.booleans(),
    layer_norm=st.booleans(),
    checkpoint_every=st.sampled_from((None, None, 2)),
    with_reset=st.booleans(),
    with_target=st.booleans(),
    ending=st.sampled_from((None, "lengths", "packed")),
    backend=st.sampled_from((None, None, "reference", "loop")),
)
def test_layers_take_their_steps_row_by_row(
    kind: str, marks: str, T: int, seed: int, num_layers: int, bidirectional: bool, batch_first: bool,
    residual: bool, layer_norm: bool, checkpoint_every: int | None, with_reset: bool, with_target: bool,
    ending: str | None, backend: str | None,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    options: dict[str, Any] = {"layer_norm": "separate"} if layer_norm and kind == "GRU" else {}
    layer = getattr(en, kind)(
        I, H, num_layers, dtype=DOUBLE, fallback="error", bidirectional=bidirectional, batch_first=batch_first,
        residual=residual and num_layers > 1 and not bidirectional, checkpoint_every=checkpoint_every,
        backend=backend, **options,
    )  # fmt: skip
    mask, reset = mask_of(marks, T, seed), torch.rand(T, B) < 0.3 if with_reset else None
    lengths = torch.randint(1 if ending == "packed" else 0, T + 1, (B,)) if ending else torch.full((B,), T)
    lengths[seed % B] = T  # a PackedSequence is as long as its longest row
    taken = mask & (torch.arange(T).unsqueeze(1) < lengths)
    x = torch.randn(T, B, I, dtype=DOUBLE).requires_grad_()
    shape = (num_layers * layer.num_directions, B, H)
    make = [tuple(torch.randn(shape, dtype=DOUBLE).requires_grad_() for _ in layer.state_names) for _ in "st"]
    hx, target = (v if len(v) > 1 else v[0] for v in make)
    target = target if with_target and with_reset else None
    wanted = stack_by_hand(layer, x, hx, taken, reset, target)

    def turned(v: Any) -> Any:
        return v.transpose(0, 1) if v is not None and batch_first else v

    spoiled = torch.where(taken.unsqueeze(-1), x, torch.full_like(x, torch.nan))
    sequences: Any = turned(spoiled)
    if ending == "packed":
        sequences = pack_padded_sequence(sequences, lengths, batch_first, enforce_sorted=False)
    found = layer(
        sequences, hx, mask=turned(mask), reset=turned(reset), initial_state=target, return_states=True,
        lengths=lengths if ending == "lengths" else None,
    )  # fmt: skip
    y = found.y
    if ending == "packed":
        y = pad_packed_sequence(y, batch_first, total_length=T)[0]
    states = tuple(v.transpose(1, 2) if batch_first else v for v in leaves(found.states))
    states = tuple(torch.cat((v, v.new_zeros(len(v), T - v.shape[1], *v.shape[2:])), 1) for v in states)
    inputs = {"x": x, **dict(layer.named_parameters())}
    inputs |= {f"hx {i}": v for i, v in enumerate(make[0])}
    inputs |= {f"target {i}": v for i, v in enumerate(make[1])} if target is not None else {}
    assert_same((turned(y), found.state, states), wanted, inputs)
    if backend is None and taken.any():
        assert layer.path == FAST


class Pair(nn.Module):
    """Two inputs, one of them whole numbers; a context; a state of another rank."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = H
        self.table = nn.Embedding(5, H)
        self.map = nn.Linear(I + H, H)

    def initial_state(self, batch: int, device: Any, dtype: Any) -> Any:
        return torch.zeros(batch, H, device=device, dtype=dtype), torch.zeros(batch, 2, 2, dtype=dtype)

    def forward(self, x: Any, state: Any, context: Tensor) -> Any:
        a, k = x
        h, m = state
        h = torch.tanh(self.map(torch.cat((a, h), 1)) + self.table(k) * context)
        m = 0.5 * m + h.view(-1, 2, 2)
        return {"h": h, "m": m.flatten(1)}, (h, m)


@pytest.mark.parametrize("backend", [None, "reference", "loop"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("marks", ["holes", "left", "checker", "none"])
def test_any_cell_takes_its_steps_row_by_row(backend: str | None, reverse: bool, marks: str) -> None:
    T = 5
    layer = en.Recurrent(Pair(), reverse=reverse, backend=backend, fallback="error").double()
    mask = mask_of(marks, T, 3)
    a = torch.randn(T, B, I, dtype=DOUBLE).requires_grad_()
    k = torch.randint(0, 5, (T, B))
    context = torch.randn(B, H, dtype=DOUBLE).requires_grad_()
    spoiled = torch.where(mask.unsqueeze(-1), a, torch.full_like(a, torch.inf))
    out_of_range = torch.where(mask, k, torch.full_like(k, -7))
    y, state = layer((spoiled, out_of_range), context=context, mask=mask)
    if marks == "none":
        assert not any(v.any() for v in leaves((y, state)))
        return

    columns, finals = [], []
    for b in range(B):
        now, steps = layer.cell.initial_state(1, None, DOUBLE), []  # type: ignore[operator]
        for t in reversed(range(T)) if reverse else range(T):
            one = slice(b, b + 1)
            out = {"h": torch.zeros(1, H, dtype=DOUBLE), "m": torch.zeros(1, 4, dtype=DOUBLE)}
            if mask[t, b]:
                out, now = layer.cell((a[t, one], k[t, one]), now, context[one])
            steps.append(out)
        columns.append(steps[::-1] if reverse else steps)
        finals.append(now)
    wanted = {n: torch.stack([torch.cat([c[t][n] for c in columns]) for t in range(T)]) for n in ("h", "m")}
    end = tuple(torch.cat(v) for v in zip(*finals, strict=True))
    assert_same((y, state), (wanted, end), {"a": a, "context": context, **dict(layer.named_parameters())})
    if backend is None:
        assert layer.path == FAST


def test_a_mask_of_first_steps_is_lengths_bit_for_bit() -> None:
    layer, x = en.GRU(I, H, bidirectional=True), torch.randn(6, B, I)
    lengths = torch.tensor([6, 0, 3, 5])
    mask = torch.arange(6).unsqueeze(1) < lengths
    for a, b in zip(leaves(layer(x, mask=mask)), leaves(layer(x, lengths=lengths)), strict=True):
        assert torch.equal(a, b)


def test_a_row_does_not_know_its_holes() -> None:
    """A row with holes gives what the row without them gives, bit for bit, whatever its neighbours do."""
    layer, x = en.LSTM(I, H), torch.randn(9, B, I)
    mask = mask_of("holes", 9, 11)
    y, (h, c) = layer(x, mask=mask)
    for b in range(B):
        alone = x[mask[:, b], b : b + 1]
        if len(alone):
            y_b, (h_b, c_b) = layer(alone)
            assert torch.equal(y[mask[:, b], b], y_b[:, 0])
            assert torch.equal(h[:, b], h_b[:, 0])
            assert torch.equal(c[:, b], c_b[:, 0])


def test_one_sequence_without_a_batch_axis() -> None:
    layer, x = en.GRU(I, H), torch.randn(7, I)
    mask = torch.tensor([False, True, True, False, True, False, False])
    y, h = layer(x, mask=mask)
    y_taken, h_taken = layer(x[mask])
    assert_near(y[mask], y_taken)
    assert_near(h, h_taken)
    assert not y[~mask].any()


def test_vendor_kernels_take_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = en.LSTM(I, H, 2, bidirectional=True, dtype=DOUBLE), torch.randn(5, B, I, dtype=DOUBLE)
    x.requires_grad_()
    mask = mask_of("holes", 5, 4)
    packed = pack_padded_sequence(x, torch.tensor([5, 4, 2, 1]))
    inputs = {"x": x, **dict(layer.named_parameters())}
    ours = [layer(x, mask=mask), layer(packed, mask=mask)]
    monkeypatch.setattr("elman.nn.stock.VENDOR_DEVICES", ("cpu",))
    for sequences, wanted in zip((x, packed), ours, strict=True):
        found = layer(sequences, mask=mask)
        assert layer.path == "vendor"
        assert_same(found, wanted, inputs)


@pytest.mark.parametrize("dynamic", [False, True])
def test_masks_in_a_compiled_model(dynamic: bool) -> None:
    torch._dynamo.reset()  # graphs of other tests count against its limit
    layer = en.GRU(I, H, bidirectional=True)
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=dynamic)
    for T in (4, 6):
        x = torch.randn(T, B, I)
        for marks in ("holes", "none", "all", "left"):
            mask = mask_of(marks, T, 2)
            for a, b in zip(leaves(compiled(x, mask=mask)), leaves(layer(x, mask=mask)), strict=True):
                assert_near(a, b)


def test_masks_that_are_none_are_refused() -> None:
    layer, x = en.GRU(I, H, batch_first=True), torch.randn(B, 5, I)
    with pytest.raises(
        ValueError, match=r"mask is torch.bool of shape \(5, 4\); expected torch.bool of shape \(4, 5\)"
    ):
        layer(x, mask=torch.ones(5, B, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask is torch\.float32"):
        layer(x, mask=torch.ones(B, 5))
    scan = Scan(lambda x, h: torch.tanh(x + h))
    with pytest.raises(EngineError, match=r"mask is torch\.int64"):
        scan(torch.randn(5, B, H), torch.zeros(B, H), mask=torch.ones(5, B, dtype=torch.int64))


def test_scans_take_masks_with_resets_lengths_and_chunks() -> None:
    T, step = 8, nn.GRUCell(I, H, dtype=DOUBLE)
    x, s = (
        torch.randn(T, B, I, dtype=DOUBLE).requires_grad_(),
        torch.randn(B, H, dtype=DOUBLE).requires_grad_(),
    )
    inputs = {"x": x, "s": s, **dict(step.named_parameters())}
    for seed in range(4):
        mask, reset = mask_of("holes", T, seed), torch.rand(T, B) < 0.3
        lengths = torch.tensor([8, 5, 0, 7])
        taken = mask & (torch.arange(T).unsqueeze(1) < lengths)
        for reverse in (False, True):
            for every in (None, 3):
                found = Scan(step)(
                    x, s, mask=mask, lengths=lengths, reset=reset, reverse=reverse, return_states=True,
                    checkpoint_every=every,
                )  # fmt: skip
                wanted = row_by_row(
                    lambda x_t, h: (n := step(x_t, h[0]), (n,)), x, [s], taken, reset, None, reverse
                )
                assert_same(found, wanted, inputs)
