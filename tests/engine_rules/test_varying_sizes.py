"""Sizes beside T and B that vary from call to call (the source lengths of an attention decoder): one trace for all, and
values and gradients of the plain loop at each."""

from __future__ import annotations

import gc
import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from elman.engine import EngineWarning, Scan
from elman.engine.call.loop import plain_loop
from elman.engine.stream import Stepper
from elman.engine.trust.verify import verify_case
from elman.nn import attention

H, I, T = 6, 3, 4
SIZES = (7, 9, 11, 2, 7, 9, 16, 33)
Read = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


class Decoder(nn.Module):
    """A GRU that is fed what it reads of the memory (B, S, H), with a mask (B, S)."""

    def __init__(self, read: Read) -> None:
        super().__init__()
        self.read = read
        self.cell, self.map, self.query = nn.GRUCell(I + H, H), nn.Linear(H, 4), nn.Linear(H, 4)
        self.null = nn.Parameter(torch.randn(1, 1, H))
        self.heads = attention.MultiHeadAttention(H, H, H, 2)
        self.additive = attention.AdditiveAttention(H, H, 5)
        self.dot = attention.DotAttention()
        self.factor, self.other, self.draws = 0.5, 0.25, nn.Dropout(0.5)

    def forward(self, x: Tensor, h: Tensor, context: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        read = self.read(self, h, *context)
        h = self.cell(torch.cat([x, read], 1), h)
        return torch.cat([h, read], 1), h


def scores(h: Tensor, m: Tensor) -> Tensor:
    return (m * h.unsqueeze(1)).sum(2)


def mixed(weights: Tensor, m: Tensor) -> Tensor:
    return (weights.unsqueeze(2) * m).sum(1)


def sentinel(self: Any, h: Tensor, m: Tensor, mask: Tensor) -> Tensor:
    m = torch.cat([self.null.expand(m.shape[0], 1, H), m], 1)
    return torch.einsum("bs,bsh->bh", torch.softmax(torch.einsum("bh,bsh->bs", h, m), 1), m)


def projected(self: Any, h: Tensor, m: Tensor, mask: Tensor) -> Tensor:
    energies = torch.bmm(self.map(m), self.query(h).unsqueeze(2)).squeeze(2)
    return torch.bmm(torch.softmax(energies.masked_fill(~mask, -1e9), 1).unsqueeze(1), m).squeeze(1)


def sdpa(self: Any, h: Tensor, m: Tensor, mask: Tensor) -> Tensor:
    m = m.unsqueeze(1)
    return F.scaled_dot_product_attention(h[:, None, None], m, m, attn_mask=mask[:, None, None]).flatten(1)


# Where S is a number in the step, it is seen what number.
VARYING: dict[str, Read] = {
    "additive": lambda self, h, m, mask: self.additive(h, m, mask).vector,
    "dot": lambda self, h, m, mask: self.dot(h, m, mask).vector,
    "heads": lambda self, h, m, mask: self.heads(h, m, mask).vector,
    "projected": projected,
    "sdpa": sdpa,
    "with a place more": sentinel,
    "without a place": lambda self, h, m, mask: m[:, -1] * h + m[:, :-1].sum(1),
    "largest": lambda self, h, m, mask: (m * h.unsqueeze(1)).amax(1),
    "mean": lambda self, h, m, mask: (m * h.unsqueeze(1)).mean(1),
    "variance": lambda self, h, m, mask: (m * h.unsqueeze(1)).var(1),
    "divided": lambda self, h, m, mask: (m * h.unsqueeze(1)).sum(1) / m.shape[1],
    "roots": lambda self, h, m, mask: m.sum(1) * h * m.shape[1] ** -0.5 + math.log(m.size(1)),
    "numbered": lambda self, h, m, mask: mixed(torch.softmax(torch.arange(m.shape[1]) * h[:, :1], 1), m),
    "flat": lambda self, h, m, mask: h * m.flatten(1).sum(1, keepdim=True),
}  # fmt: skip


def a_loop(self: Any, h: Tensor, m: Tensor, mask: Tensor) -> Tensor:
    out = torch.zeros_like(h)
    for j in range(m.shape[1]):
        out = out + m[:, j] * torch.tanh(h * (j + 1))
    return out


def scaled(self: Any, t: Tensor) -> Tensor:
    return t * self.other


def a_function(self: Any, h: Tensor, m: Tensor, mask: Tensor) -> Tensor:
    t = scores(h, m).sum(1, keepdim=True) * h
    return scaled(self, t) if m.shape[1] < 10 else t * 0.25


# Where the step decides by S, each side is traced.
DECIDING: dict[str, Read] = {
    "a loop over the places": a_loop,
    "a branch": lambda self, h, m, mask: m.sum(1).clamp(-1, 1) * h if m.shape[1] > 10 else m.sum(1) * h,
    "a branch that no value shows": lambda self, h, m, mask: (
        (m.sum(1) * h).clamp(-1e6, 1e6) if m.shape[1] > 10 else m.sum(1) * h
    ),
    "a branch on a logarithm": lambda self, h, m, mask: (
        m.sum(1) * h * (self.factor if math.log(m.shape[1]) > 2.3 else self.other)
    ),
    "another function": a_function,
    "the middle": lambda self, h, m, mask: m[:, m.shape[1] // 2] * h,
}


def inputs(S: int, B: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, generator=g, dtype=torch.float64)).requires_grad_()

    lengths = torch.randint(1, S + 1, (B,), generator=g)
    return draw(T, B, I), draw(B, H), (draw(B, S, H), torch.arange(S) < lengths.unsqueeze(1))


def outcome(run: Callable[..., Any], cell: nn.Module, given: tuple[Any, ...], **options: Any) -> list[Tensor]:
    x, state, context = given
    result = run(x, state, context=context, **options)
    outs = [t for t in tree_leaves((result.y, result.state)) if isinstance(t, Tensor)]
    leaves = [t for t in tree_leaves((given, list(cell.parameters()))) if t.requires_grad]
    loss = sum((torch.cos(torch.arange(o.numel())).view(o.shape) * o).sum() for o in outs if o.requires_grad)
    grads = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [*outs, *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, grads, strict=True))]


def assert_as_loop(scan: Callable[..., Any], cell: nn.Module, given: tuple[Any, ...], **options: Any) -> None:
    got = outcome(scan, cell, given, **options)
    expected = outcome(lambda *a, **k: plain_loop(cell, *a, **k), cell, given, **options)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@contextmanager
def traces(scan: Scan) -> Iterator[list[Any]]:
    """The traces of a scan, each with the sizes that vary in it."""
    found: list[Any] = []
    trace = scan._trace
    scan._trace = lambda *a: (found.append(a), trace(*a))[1]  # type: ignore[method-assign, assignment]
    yield found
    del scan._trace


@pytest.mark.parametrize("name", VARYING)
def test_one_trace_for_all_sizes(name: str) -> None:
    torch.manual_seed(0)
    cell = Decoder(VARYING[name]).double()
    scan, rng = Scan(cell, fallback="error"), random.Random(name)
    with traces(scan) as found:
        for seed, S in enumerate(SIZES):
            assert_as_loop(scan, cell, inputs(S, rng.randint(1, 5), seed))
            assert scan.path == "native"
        assert len(found) == 2  # of the first size, and of sizes that vary
    (family,) = scan._families
    assert not [entry for entry in family.entries.values() if entry.reason]


@pytest.mark.parametrize("name", DECIDING)
def test_what_is_decided_by_a_size_is_traced_at_each(name: str) -> None:
    torch.manual_seed(0)
    cell = Decoder(DECIDING[name]).double()
    scan = Scan(cell, fallback="error")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        for seed, S in enumerate((7, 9, 16, 3)):
            assert_as_loop(scan, cell, inputs(S, 3, seed))
            assert_as_loop(scan, cell, inputs(S, 2, seed, scale=1e5))
            cell.other += 0.5
            assert_as_loop(scan, cell, inputs(S, 3, seed))


class Steep(torch.autograd.Function):
    """The gradient is another at one size."""

    @staticmethod
    def forward(ctx: Any, m: Tensor) -> Tensor:
        ctx.places = m.shape[1]
        return m * 1.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * (2.0 if ctx.places == 23 else 1.0)


# At one size of many that lie between others, something else.
AT_ONE_SIZE: dict[str, Read] = {
    "a number": lambda self, h, m, mask: m.mean(1) * h * (self.factor if m.shape[1] == 23 else 0.25),
    "a number that no value shows": lambda self, h, m, mask: (
        m.mean(1) * h.clamp(-1e6, 1e6) if m.shape[1] == 23 else m.mean(1) * h
    ),
    "an attribute of the same value": lambda self, h, m, mask: (
        m.mean(1) * h * (self.factor if m.shape[1] == 23 else self.other)
    ),
    "a custom gradient": lambda self, h, m, mask: Steep.apply(m).mean(1) * h,
    "nothing": lambda self, h, m, mask: self.dot(h, m, mask).vector,
}


@pytest.mark.parametrize("name", AT_ONE_SIZE)
def test_between_sizes_that_agreed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a program has agreed with the loop at many sizes, it is not compared at those between any more; the step is
    looked at all the same."""
    compared: list[int] = []
    monkeypatch.setattr(
        "elman.engine.scan.verify_case", lambda *a: (compared.append(a[3].c[0].shape[1]), verify_case(*a))
    )
    torch.manual_seed(0)
    cell = Decoder(AT_ONE_SIZE[name]).double()
    cell.factor = cell.other
    scan = Scan(cell, fallback="error")
    sizes = [S for S in range(9, 40) if S != 23]
    random.Random(name).shuffle(sizes)
    for seed, S in enumerate((7, 41, *sizes, 23)):
        assert_as_loop(scan, cell, inputs(S, 3 + seed % 2, seed))
    assert 8 <= len(compared) <= 16
    assert 23 not in compared or name != "nothing"
    cell.factor = 1.5
    assert_as_loop(scan, cell, inputs(23, 3, 0))
    assert_as_loop(scan, cell, inputs(23, 4, 1, scale=1e3))


@pytest.mark.parametrize("options", [("lengths",), ("reset",), ("reverse", "lengths"), ("chunks",)])
def test_with_the_options_of_a_call(options: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    cell = Decoder(VARYING["additive"]).double()
    scan = Scan(cell, fallback="error")
    for seed, S in enumerate((7, 9, 12, 5)):
        B, arguments = seed + 2, {}
        if "lengths" in options:
            arguments["lengths"] = torch.arange(B) % (T + 1)
        if "reset" in options:
            arguments["reset"] = torch.rand(T, B) < 0.4
        run = partial(scan, checkpoint_every=2) if "chunks" in options else scan
        assert_as_loop(run, cell, inputs(S, B, seed), reverse="reverse" in options, **arguments)
    assert scan.path == "native"


class Coverage(nn.Module):
    """Attention that remembers where it looked: a state (B, S) beside (B, H)."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.seen = nn.GRUCell(I + H, H), nn.Linear(1, H)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor], context: tuple[Tensor, Tensor]) -> Any:
        (h, seen), (m, mask) = state, context
        energies = torch.tanh(m + h.unsqueeze(1) + self.seen(seen.unsqueeze(2))).sum(2)
        weights = torch.softmax(energies.masked_fill(~mask, -1e9), 1)
        h = self.cell(torch.cat([x, mixed(weights, m)], 1), h)
        return weights, (h, seen + weights)


def test_a_state_that_is_as_long_as_the_memory() -> None:
    cell = Coverage().double()
    scan = Scan(cell, fallback="error")
    with traces(scan) as found:
        for seed, S in enumerate((5, 8, 13, 4)):
            x, h, context = inputs(S, 3, seed)
            assert_as_loop(scan, cell, (x, (h, torch.rand(3, S, dtype=torch.float64)), context))
        assert len(found) == 2


def test_two_sizes_that_vary_apart() -> None:
    """They are taken for one as long as they have changed together."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(I + 2 * H, H)

        def forward(self, x: Tensor, h: Tensor, context: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            read = [mixed(torch.softmax(scores(h, m), 1), m) for m in context]
            h = self.cell(torch.cat([x, *read], 1), h)
            return h, h

    cell = Two().double()
    scan = Scan(cell, fallback="error")
    with traces(scan) as found:
        for seed, (a, b) in enumerate([(5, 5), (7, 7), (9, 9), (5, 8), (8, 5), (7, 30)]):
            x, h, (first, _) = inputs(a, 3, seed)
            assert_as_loop(scan, cell, (x, h, (first, inputs(b, 3, seed + 100)[2][0])))
        assert len(found) == 3
    assert [f.axes[-4:] for f in scan._families] == [(-1, H, -2, H), (-1, H, -1, H)]


def test_after_the_first_round_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 source lengths and 10 batch sizes: neither a trace, nor a run of the step, nor a plan in the second round."""
    cell = Decoder(VARYING["dot"])
    scan, rng = Scan(cell, fallback="error"), random.Random(0)
    pairs = [(S, rng.randint(1, 10)) for S in rng.sample(range(3, 90), 60)]
    calls = [
        [t.float() if t.is_floating_point() else t for t in tree_leaves(inputs(S, B, 0))] for S, B in pairs
    ]

    def go() -> None:
        for x, h, m, mask in calls:
            scan(x[:1].detach(), h.detach(), context=(m.detach(), mask))

    go()
    monkeypatch.setattr(scan, "_trace", lambda *a: pytest.fail("a trace"))
    monkeypatch.setattr(scan, "_member", lambda *a: pytest.fail("a run of the step"))
    monkeypatch.setattr(scan, "_left_alone", lambda *a: pytest.fail("a verification"))
    monkeypatch.setattr("elman.engine.scan.choose_loops", lambda *a: pytest.fail("a plan"))
    go()


def test_a_layer_that_is_traced_again_and_again_says_so_once() -> None:
    cell = Decoder(DECIDING["the middle"])
    scan = Scan(cell, fallback="error")

    def call(S: int) -> None:
        x, h, (m, mask) = inputs(S, 2, S)
        scan(x.float(), h.float(), context=(m.float(), mask))

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for S in range(5, 15):
            call(S)
    (one,) = [w for w in told if issubclass(w.category, EngineWarning)]
    assert "traced 8 times" in str(one.message) and "sizes beside T and B vary" in str(one.message)
    assert "__getitem__" in str(one.message) and one.filename == __file__


def test_a_collection_in_between_is_not_of_the_step() -> None:
    """What the collector runs (others' callbacks, finalizers) may begin at any allocation."""

    def callback(phase: str, info: dict[str, int]) -> None:
        """Of somebody else."""

    cell, before = Decoder(VARYING["dot"]), gc.get_threshold()
    scan = Scan(cell, fallback="error")
    with traces(scan) as found:
        for S in SIZES:
            x, h, (m, mask) = inputs(S, 2, S)
            if SIZES[2] == S:  # from the first size that needs no trace
                gc.callbacks.append(callback)
                gc.set_threshold(1)
            try:
                scan(x.float(), h.float(), context=(m.float(), mask))
            finally:
                if callback in gc.callbacks:
                    gc.callbacks.remove(callback)
                gc.set_threshold(*before)
    assert len(found) == 2
    assert gc.isenabled()


def test_a_step_that_reads_something_new_each_time_says_what() -> None:
    cell = Decoder(VARYING["dot"])
    cell.read = lambda self, h, m, mask: m.sum(1) * self.factor
    scan = Scan(cell, fallback="error")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for k in range(9):
            cell.factor = 0.1 * k
            x, h, (m, mask) = inputs(5, 2, k)
            scan(x.float(), h.float(), context=(m.float(), mask))
    (one,) = [w for w in told if issubclass(w.category, EngineWarning)]
    assert "'factor', which it reads, has changed" in str(one.message)


def test_a_cell_of_the_loop_is_not_traced_at_each_size() -> None:
    """The same reason at two sizes is the reason at all."""
    cell = Decoder(lambda self, h, m, mask: m.sum(1) * h if float(h.detach().sum()) > 0 else m.sum(1))
    scan = Scan(cell)
    with warnings.catch_warnings(record=True), traces(scan) as found:
        warnings.simplefilter("always")
        for seed, S in enumerate(SIZES):
            x, h, context = inputs(S, 3, seed)
            assert_as_loop(scan, cell.double(), (x, h, context))
            assert scan.path == "loop"
        assert len(found) <= 3


def test_a_record_of_the_attention() -> None:
    class Kept(Decoder):
        def forward(self, x: Tensor, h: Tensor, context: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            attended = self.additive(h, *context)
            self.weights = attended.weights.detach()
            h = self.cell(torch.cat([x, attended.vector], 1), h)
            return h, h

    cell = Kept(VARYING["additive"]).double()
    scan = Scan(cell, fallback="error")
    for seed, S in enumerate((5, 9, 12, 7)):
        given = inputs(S, 3, seed)
        assert_as_loop(scan, cell, given)
        scan(given[0], given[1], context=given[2])
        left = cell.weights
        plain_loop(cell, given[0], given[1], context=given[2])
        torch.testing.assert_close(left, cell.weights)
        assert scan.path == "native"


def test_streams_of_any_source_length() -> None:
    cell = Decoder(VARYING["additive"])
    scan = Scan(cell, fallback="error")
    with traces(scan) as found, torch.no_grad():
        for seed, S in enumerate((5, 9, 12, 7)):
            x, h, (m, mask) = inputs(S, 1, seed)
            x, h, m = x.float(), h.float(), m.float()
            stepper = Stepper(scan, x[0], h, (m, mask))
            expected = plain_loop(cell, x, h, context=(m, mask)).y
            got = torch.stack([stepper(x[t]).clone() for t in range(T)])
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
            assert stepper.path == "native"
        assert len(found) == 2


@pytest.mark.filterwarnings("ignore:autocast on the CPU")
@pytest.mark.parametrize("grad", [True, False])
def test_under_autocast(grad: bool) -> None:
    cell = Decoder(VARYING["projected"])
    scan = Scan(cell, fallback="error")
    with traces(scan) as found, torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(grad):
        for seed, S in enumerate((5, 9, 12, 7)):
            x, h, (m, mask) = inputs(S, 3, seed)
            x, h, m = x.detach().float(), h.detach().float(), m.detach().float()
            got = scan(x, h, context=(m, mask)).y
            expected = plain_loop(cell, x, h, context=(m, mask)).y
            torch.testing.assert_close(got, expected, rtol=0.1, atol=0.05)
        assert len(found) == 2


def test_a_mask_is_drawn_for_each_place() -> None:
    """Dropout of the weights: other ones at each place, step and row, and the same share of all at any size."""
    cell = Decoder(lambda self, h, m, mask: mixed(self.draws(torch.ones_like(m[:, :, 0])), m)).double()
    cell.cell = None  # type: ignore[assignment]
    cell.forward = lambda x, h, context: (cell.draws(torch.ones_like(context[0][:, :, 0])), h)  # type: ignore[method-assign]
    scan = Scan(cell, fallback="error")
    for S in (20, 30, 40, 25):
        x, h, context = inputs(S, 50, 0)
        y = scan(x, h, context=context).y
        assert y.shape == (T, 50, S) and scan.path == "native"
        assert set(y.unique().tolist()) == {0.0, 2.0}
        assert abs(float(y.mean()) - 1) < 0.1
        assert bool((y.std((0, 1)) > 0.5).all())


def test_the_sum_of_sizes_is_known() -> None:
    """Formulas of sizes: what a pass adds and multiplies goes on to be known."""
    from elman.engine.tracing.lengths import Length, Symbols

    symbols = Symbols([(31, 37), (41, 43)])
    a, b = symbols.length(31, 37), symbols.length(41, 43)
    assert isinstance(a, Length) and isinstance(b, Length)
    tree = [
        a + 3,
        2 * a * b - b,
        sum([a, a]),
        symbols.length(33, 39),
        symbols.length(31 * 41 * 5, 37 * 43 * 5),
        7,
    ]
    assert [n.at((10, 100)) if isinstance(n, Length) else n for n in tree] == [13, 1900, 20, 12, 5000, 7]
    assert symbols.length(7, 8) is None
    assert symbols.portion(1 / 31, 1 / 37) == 1 / 31
    root: Any = symbols.portion(3 * math.sqrt(41), 3 * math.sqrt(43))
    assert root.at((1, 4)) == pytest.approx(6)
    assert symbols.portion(0.25, 0.5) is None
    assert type(a - a) is int and a - a == 0
