"""A call with lengths or resets in one go gives the same bits as part by part, and reads nothing of the padding."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import elman.nn
from elman import _core
from elman.engine import EngineError
from elman.engine.call import quick, run
from elman.engine.program.rows import layout
from tests.engine_rules.test_recipes import LAYERS, Conditioned, H, I, assert_same_bits, plans, results

WAYS = ["lengths", "resets", "both"]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    _core.stretch(0)
    torch.set_num_threads(threads)


def drawn(way: str, T: int, B: int, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """x with NaN in its padding, and the options of a call."""
    generator = torch.Generator().manual_seed(seed)
    x, options = torch.randn(T, B, I, generator=generator), {}
    if way != "resets":
        lengths = torch.randint(0, T + 1, (B,), generator=generator)
        lengths[0] = T - 1
        for b, end in enumerate(lengths.tolist()):
            x[end:, b] = torch.nan
        options["lengths"] = lengths
    if way != "lengths":
        options["reset"] = torch.rand(T, B, generator=generator) < 0.3
    return x.requires_grad_(), options


def part_by_part(layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run, quick):
        monkeypatch.setattr(module, "in_one_go", lambda *_: None)
    for scan in layer.scans():
        scan.last = None


def has_recipes(layer: nn.Module, way: str) -> bool:
    key = (way != "resets", way != "lengths")
    asked_for = [p.recipes[key] for p in plans(layer) if key in p.recipes]
    return bool(asked_for) and None not in asked_for


@pytest.mark.parametrize("name", LAYERS)
def test_same_bits_as_part_by_part(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, given = LAYERS[name](), {way: drawn(way, 6, 9) for way in WAYS}
    found: dict[str, list[list[Tensor]]] = {way: [] for way in WAYS}
    for way, (x, options) in given.items():
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found[way].append(results(layer, x, **options))
        assert has_recipes(layer, way)
        with torch.no_grad():
            found[way].append(results(layer, x, **options))
    torch.set_num_threads(1)
    part_by_part(layer, monkeypatch)
    for plan in plans(layer):
        plan.recipes.clear()
    for way, (x, options) in given.items():
        in_parts = results(layer, x, **options)
        assert not has_recipes(layer, way)
        for some in found[way]:
            assert_same_bits(some, in_parts[: len(some)])
        assert not any(bool(g.isnan().any()) for g in in_parts if g is not None)


@pytest.mark.parametrize("name", ["lstm", "two ways", "minimal", "layer norm by hand", "backwards"])
def test_any_stretches_give_the_same(name: str) -> None:
    torch.manual_seed(1)
    layer = LAYERS[name]()
    for way, threads in itertools.product(WAYS, (1, 2)):
        torch.set_num_threads(threads)
        x, options = drawn(way, 9, 13, seed=3)
        _core.stretch(0)
        whole = results(layer, x, **options)
        by_row = len(whole) - sum(p.requires_grad for p in layer.parameters())
        for steps in (1, 4):
            _core.stretch(steps)
            found = results(layer, x, **options)
            assert_same_bits(found[:by_row], whole[:by_row])
            for a, b in zip(found[by_row:], whole[by_row:], strict=True):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("reverse", "share", "seed"), [(False, False, 0), (True, False, 1), (False, True, 2), (True, True, 3)]
)
def test_a_long_ragged_call_equals_the_loop(reverse: bool, share: bool, seed: int) -> None:
    """Several stretches of their own accord, rows dealt anew to the threads in each, a start and a target apart."""
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    cell = LAYERS["layer norm by hand"]().cell.double()  # type: ignore[operator]
    x, options = drawn("both", 80, 11, seed)
    x = x.detach().double().requires_grad_()
    state, target = (
        tuple(torch.randn(11, H, dtype=torch.float64, requires_grad=True) for _ in "hc") for _ in "ab"
    )
    found = []
    for backend in (None, "loop"):
        scan = elman.engine.Scan(cell, backend=backend)
        _core.share_columns(share)
        try:
            y, (h, c), _ = scan(x, state, initial_state=target, reverse=reverse, **options)
            grads = torch.autograd.grad(
                y.square().sum() + (h * c).sum(), [x, *state, *target, *cell.parameters()]
            )
        finally:
            _core.share_columns(False)
        assert scan.path == (backend or "native")
        found.append([y, h, c, *grads])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, (x, options) = elman.nn.Recurrent(Conditioned(I, H)), drawn("both", 5, 7)
    context = torch.randn(7, I, requires_grad=True)

    def both() -> list[Tensor]:
        y = layer(x, context=context, **options)[0]
        return [y, *torch.autograd.grad(y.square().sum(), [x, context, *layer.parameters()])]

    found = both()
    assert has_recipes(layer, "both")
    part_by_part(layer, monkeypatch)
    in_parts = both()
    assert_same_bits([found[0], found[1], *found[3:]], [in_parts[0], in_parts[1], *in_parts[3:]])
    torch.testing.assert_close(found[2], in_parts[2])  # a sum over the steps, in another order


def test_a_second_call_with_lengths_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    layer, (x, _) = elman.nn.LSTM(I, H), drawn("resets", 5, 3)
    calls = [torch.tensor(ends) for ends in ([5, 2, 0], [1, 4, 4], [3, 3, 3], [5, 5, 5], [0, 0, 0])]
    expected = []
    for lengths in calls:
        layer.scans()[0]._forget()
        expected.append(results(layer, x, lengths=lengths))
    results(layer, x, lengths=calls[0])
    for lengths, some in zip(calls, expected, strict=True):
        assert_same_bits(results(layer, x, lengths=lengths), some)
        results(layer, x, lengths=calls[0])

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("the long way")

    monkeypatch.setattr("elman.engine.scan.gather", never)
    for lengths, some in zip(calls[:2], expected[:2], strict=True):
        assert_same_bits(results(layer, x, lengths=lengths), some)
    with pytest.raises(AssertionError, match="the long way"):
        results(layer, x)
    monkeypatch.undo()
    with pytest.raises(EngineError, match="expected 0 to 5"):
        layer.scans()[0](x, (torch.zeros(3, H), torch.zeros(3, H)), lengths=torch.tensor([6, 2, 2]))


def test_lengths_that_change_after_the_forward_change_no_gradient() -> None:
    torch.manual_seed(1)
    layer, (x, options) = elman.nn.GRU(I, H), drawn("both", 5, 4)
    expected = results(layer, x, **options)
    y, state = layer(x, **options)
    for given in options.values():
        given.zero_()
    weights = [torch.cos(torch.arange(v.numel())).reshape(v.shape) for v in (y, state)]
    assert_same_bits(list(torch.autograd.grad([y, state], [x, *layer.parameters()], weights)), expected[2:])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_the_core_lays_out_rows_as_torch_does(seed: int, reverse: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    T, B = 7, 6
    lengths = torch.randint(0, T + 1, (B,), generator=generator)
    expected = layout(T, B, lengths, None, reverse, "cpu")
    found = _core.Ragged(T, B, reverse, lengths.data_ptr(), 0, 0)
    assert (found.T, found.B, found.reverse) == (T, B, reverse)
    assert (found.steps, found.rows, found.waits) == (expected.steps, expected.rows, expected.waits)


@pytest.mark.parametrize("lengths", [[-1, 2], [4, 1]])
def test_lengths_that_are_none_are_refused(lengths: list[int]) -> None:
    given = torch.tensor(lengths)
    with pytest.raises(ValueError, match=r"a length is .*, expected 0\.\.3"):
        _core.Ragged(3, 2, False, given.data_ptr(), 0, 0)
