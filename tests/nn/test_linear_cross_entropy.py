"""LinearCrossEntropy beside F.cross_entropy(F.linear(x, W, b), target): values, all gradients, errors."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import elman.nn
from elman.engine import in_memory
from elman.nn import LinearCrossEntropy, head_cross_entropy, linear_cross_entropy
from tests.tolerances import assert_near

# The function of this name hides the module.
home: Any = import_module("elman.nn.linear_cross_entropy")


class Drawn(NamedTuple):
    x: Tensor
    weight: Tensor
    bias: Tensor | None
    target: Tensor
    options: dict[str, Any]


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> Drawn:
    """Shapes, options and values, many of them at an edge."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shape = draw.choice([(), (1,), (7,), (33,), (5, 4), (3, 2, 3)])
    H, K = draw.choice([1, 3, 16, 50]), draw.choice([1, 2, 5, 17, 130, 1023, 1024, 1025, 2100])
    size = draw.choice([0.1, 1.0, 30.0])
    x = torch.randn(*shape, H, dtype=dtype) * size
    if draw.random() < 0.3:
        x = torch.randn(*shape, 2 * H, dtype=dtype)[..., ::2] * size
    weight = torch.randn(K, H, dtype=dtype) if draw.random() < 0.7 else torch.randn(H, K, dtype=dtype).t()
    bias = draw.choice([None, torch.randn(K, dtype=dtype), torch.randn(2 * K, dtype=dtype)[::2]])
    ignore = draw.choice([-100, -1, 0, K - 1])
    target = torch.randint(0, K, shape)
    if draw.random() < 0.5:
        target = torch.where(torch.rand(shape) < 0.4, ignore, target)
    if draw.random() < 0.2 and ignore >= -1:
        target = target.to(torch.int32)
    by_class = draw.choice([None, None, torch.rand(K, dtype=dtype)])
    if by_class is not None and draw.random() < 0.5:
        by_class[torch.rand(K) < 0.3] = 0
    return Drawn(
        x, weight, bias, target,
        {"class_weight": by_class, "ignore_index": ignore, "reduction": draw.choice(["mean", "sum", "none"]),
         "label_smoothing": draw.choice([0.0, 0.0, 0.1, 1.0])},
    )  # fmt: skip


def by_torch(x: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None, **options: Any) -> Tensor:
    by_class = options.pop("class_weight", None)
    logits = F.linear(x, weight, bias)
    found = F.cross_entropy(logits.reshape(-1, len(weight)), target.reshape(-1).long(), by_class, **options)
    return found.view(target.shape) if options.get("reduction") == "none" else found


def answers(f: Callable[..., Tensor], given: Drawn, wanted: tuple[bool, ...] = (True,) * 3) -> list[Tensor]:
    """The loss and the gradients of a function of it."""
    leaves = [
        None if t is None else t.detach().clone().requires_grad_(wants)
        for t, wants in zip((given.x, given.weight, given.bias), wanted, strict=True)
    ]
    x, weight, bias = leaves
    loss = f(x, weight, given.target, bias, **given.options)
    asked = [t for t in leaves if t is not None and t.requires_grad]
    if not asked:
        return [loss]
    factors = torch.randn(loss.shape, dtype=loss.dtype, generator=torch.Generator().manual_seed(1))
    return [loss.detach(), *torch.autograd.grad((loss * factors).sum(), asked)]


def ours(*given: Any, **options: Any) -> Tensor:
    return linear_cross_entropy(*given, **options).loss


@pytest.fixture(params=[None, 0], ids=["one block", "blocks of 16 rows"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param is not None:
        monkeypatch.setattr(home, "BLOCK", 1)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("first", range(0, 120, 30))
def test_values_and_gradients_are_those_of_the_three_calls(first: int, dtype: torch.dtype) -> None:
    for seed in range(first, first + 30):
        given = drawn(seed, dtype)
        wanted = tuple(random.Random(seed).random() < 0.8 for _ in range(3))
        found, expected = answers(ours, given, wanted), answers(by_torch, given, wanted)
        for place, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
            what = f"seed {seed}, {given.options}, {tuple(given.x.shape)}, number {place}"
            assert_near(mine, theirs, gradient=place > 0, what=what)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_weights_of_classes_that_are_no_numbers_or_hardly_any(reduction: str, smoothing: float) -> None:
    """An infinite weight of a class that no row has, weights whose sum has no reciprocal, one that is below zero."""
    torch.manual_seed(0)
    x, weight, bias, target = torch.randn(9, 4), torch.randn(6, 4), torch.randn(6), torch.arange(9) % 5
    several = torch.rand(6) + 0.5
    for last in (several[-1], torch.tensor(torch.inf), torch.tensor(torch.nan), torch.tensor(-1.0)):
        for size in (1.0, 1e-41):
            by_class = torch.cat((several[:-1] * size, last.view(1)))
            options = {"class_weight": by_class, "reduction": reduction, "label_smoothing": smoothing}
            given = Drawn(x, weight, bias, target, options)
            for mine, theirs in zip(answers(ours, given), answers(by_torch, given), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_the_core_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("torch's calls")

    monkeypatch.setattr(home, "_of_logits", refuse)
    monkeypatch.setattr(home, "_differentiable", refuse)
    for reduction in ("mean", "sum", "none"):
        layer = LinearCrossEntropy(8, 30, reduction=reduction)  # type: ignore[arg-type]
        target = torch.arange(12) % 5 - 1
        target[target < 0] = -100
        layer(torch.randn(12, 8, requires_grad=True), target).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.any()
        with torch.no_grad():
            layer(torch.randn(12, 8), target)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_gradcheck(reduction: Any, smoothing: float) -> None:
    torch.manual_seed(0)
    x, w, b = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((5, 3), (7, 3), (7,)))
    target, by_class = torch.tensor([0, 6, -100, 3, 3]), torch.rand(7, dtype=torch.float64)

    def f(*inputs: Tensor) -> Tensor:
        x, w, b = inputs
        return ours(x, w, target, b, class_weight=by_class, reduction=reduction, label_smoothing=smoothing)

    assert torch.autograd.gradcheck(f, (x, w, b))
    assert torch.autograd.gradgradcheck(f, (x, w, b))


def test_a_gradient_can_be_taken_twice_and_with_any_factor() -> None:
    torch.manual_seed(0)
    layer, x, target = LinearCrossEntropy(4, 9), torch.randn(6, 4), torch.arange(6)
    expected = torch.autograd.grad(by_torch(x, layer.weight, target, layer.bias), layer.weight)[0]
    loss = layer(x, target)
    for factor in (1.0, 1.0, -3.0, 0.0):
        (found,) = torch.autograd.grad(loss, layer.weight, torch.tensor(factor), retain_graph=True)
        assert_near(found, factor * expected, gradient=True)
    loss = layer(x, target)
    loss.backward(retain_graph=True)
    first = layer.weight.grad.clone()  # type: ignore[union-attr]
    loss.backward()
    assert_near(layer.weight.grad, 2 * first, gradient=True)  # type: ignore[arg-type]


def test_a_weight_that_changes_before_the_backward_is_refused_as_torch_does() -> None:
    layer = LinearCrossEntropy(4, 9)
    for loss in (
        layer(torch.randn(3, 4), torch.arange(3)),
        F.linear(torch.randn(3, 4, requires_grad=True), layer.weight).sum(),
    ):
        with torch.no_grad():
            layer.weight.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_nll_is_minus_log_p_whatever_the_loss() -> None:
    for seed in range(40):
        x, weight, bias, target, options = drawn(seed)
        expected = by_torch(x, weight, target, bias, reduction="none", ignore_index=options["ignore_index"])
        assert_near(
            linear_cross_entropy(x, weight, target, bias, **options).nll, expected, what=f"seed {seed}"
        )


def test_no_row_and_no_row_that_counts() -> None:
    for reduction in ("mean", "sum", "none"):
        for target in (torch.empty(0, dtype=torch.long), torch.full((3,), -100)):
            given = Drawn(
                torch.randn(len(target), 4),
                torch.randn(6, 4),
                torch.randn(6),
                target,
                {"reduction": reduction},
            )
            for mine, theirs in zip(answers(ours, given), answers(by_torch, given), strict=True):
                assert_near(mine, theirs)


def test_what_cannot_be_is_what_torch_makes_of_it() -> None:
    """Infinite and NaN logits."""
    for value in (math.inf, -math.inf, math.nan):
        for place in (0, 700, 1500):
            bias = torch.zeros(1600)
            bias[place] = value
            for target in (place, 3):
                for smoothing in (0.0, 0.1):
                    given = Drawn(
                        torch.randn(2, 4),
                        torch.randn(1600, 4),
                        bias,
                        torch.tensor([target, 9]),
                        {"label_smoothing": smoothing},
                    )
                    for mine, theirs in zip(answers(ours, given), answers(by_torch, given), strict=True):
                        assert_near(
                            mine,
                            theirs,
                            gradient=True,
                            what=f"{value} at {place}, target {target}, {smoothing}",
                        )
    whole = Drawn(torch.randn(2, 4), torch.randn(9, 4), torch.full((9,), -math.inf), torch.tensor([1, 2]), {})
    for mine, theirs in zip(answers(ours, whole), answers(by_torch, whole), strict=True):
        assert_near(mine, theirs)


def test_nan_in_a_row_that_is_ignored_reaches_nothing() -> None:
    x = torch.randn(4, 3)
    x[2] = math.nan
    x.requires_grad_()
    layer = LinearCrossEntropy(3, 5)
    layer(x, torch.tensor([0, 1, -100, 2])).backward()
    for grad in (x.grad, layer.weight.grad, layer.bias.grad):
        assert grad is not None
        assert grad.isfinite().all()


def test_rows_do_not_depend_on_threads() -> None:
    x, weight, bias, target = torch.randn(70, 16), torch.randn(3000, 16), torch.randn(3000), torch.arange(70)
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(linear_cross_entropy(x, weight, target, bias, label_smoothing=0.1, reduction="none"))
    finally:
        torch.set_num_threads(before)
    assert_near(found[0].loss, found[1].loss)


def test_tied_to_an_embedding() -> None:
    torch.manual_seed(0)
    table, layer = nn.Embedding(11, 6), LinearCrossEntropy(6, 11)
    layer.weight = table.weight
    words, target = torch.tensor([1, 5, 10]), torch.tensor([5, 10, 0])
    layer(table(words).tanh(), target).backward()
    found, table.weight.grad = table.weight.grad, None
    by_torch(table(words).tanh(), table.weight, target, layer.bias).backward()
    assert_near(found, table.weight.grad, gradient=True)  # type: ignore[arg-type]


def test_a_module_is_as_a_linear_layer_is() -> None:
    torch.manual_seed(3)
    layer = LinearCrossEntropy(4, 7, ignore_index=2, label_smoothing=0.1, class_weight=torch.ones(7))
    torch.manual_seed(3)
    linear = nn.Linear(4, 7)
    assert torch.equal(layer.weight, linear.weight)
    x = torch.randn(2, 3, 4)
    assert torch.equal(layer.logits(x), linear(x))
    assert set(layer.state_dict()) == {"weight", "bias", "class_weight"}
    other = LinearCrossEntropy(4, 7, class_weight=torch.zeros(7))
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.class_weight, torch.ones(7))  # type: ignore[arg-type]
    assert set(LinearCrossEntropy(4, 7, bias=False).state_dict()) == {"weight"}
    assert "classes=7" in repr(layer)
    assert layer.double()(x.double(), torch.zeros(2, 3, dtype=torch.long)).dtype == torch.float64


@pytest.mark.slow
def test_a_call_takes_less_than_a_quarter_of_its_logits() -> None:
    rows, classes = 2240, 10_000
    peaks = []
    for side in ("by_us", "by_torch"):
        command = [
            sys.executable,
            "-m",
            "benchmarks.heads",
            "--child",
            json.dumps([rows, 32, 0.1, 0.0, side]),
        ]
        environment = {**os.environ, "ELMAN_CACHE_MB": "0"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        peaks.append(int(done.stdout))
    logits = 4 * rows * classes
    assert peaks[0] < logits / 4
    assert peaks[1] > 2 * logits, "the measurement sees nothing"


# Where torch's own calls answer


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_transforms_and_modes_have_torchs_answers() -> None:
    torch.manual_seed(0)
    x, weight, bias, target = torch.randn(5, 3), torch.randn(7, 3), torch.randn(7), torch.arange(5)

    def f(g: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda w: g(x, w, target, bias, label_smoothing=0.1)

    for transform in (torch.func.grad, torch.func.jacrev, torch.func.jacfwd, torch.func.hessian):
        assert_near(transform(f(ours))(weight), transform(f(by_torch))(weight), gradient=True)
    each = torch.func.vmap(lambda x, t: ours(x.unsqueeze(0), weight, t.unsqueeze(0), bias))
    assert_near(each(x, target), by_torch(x, weight, target, bias, reduction="none"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_near(ours(x, weight, target, bias), by_torch(x, weight, target, bias))
        assert not in_memory(x, weight)
    half = [t.bfloat16() for t in (x, weight, bias)]
    assert_near(ours(half[0], half[1], target, half[2]), by_torch(half[0], half[1], target, half[2]))
    with torch.device("meta"):
        layer = LinearCrossEntropy(3, 7)
    assert (
        layer(torch.empty(5, 3, device="meta"), torch.zeros(5, dtype=torch.long, device="meta")).shape == ()
    )


def test_a_trained_class_weight_is_refused_as_torch_does() -> None:
    x, weight, by_class = torch.randn(5, 3), torch.randn(7, 3), torch.rand(7, requires_grad=True)
    for f in (ours, by_torch):
        with pytest.raises(RuntimeError, match="not differentiable with respect to argument 'weight'"):
            f(x, weight, torch.arange(5), None, class_weight=by_class)


@pytest.mark.slow
def test_compiled_whole() -> None:
    torch.manual_seed(0)
    layer, x = LinearCrossEntropy(4, 9, label_smoothing=0.1), torch.randn(6, 4)
    expected = layer(x, torch.arange(6))
    found = torch.compile(layer, fullgraph=True, backend="aot_eager")(x, torch.arange(6))
    assert_near(found, expected)
    (grad,) = torch.autograd.grad(found, layer.weight)
    assert_near(grad, torch.autograd.grad(expected, layer.weight)[0], gradient=True)


def test_without_the_core_and_where_the_reference_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, target = torch.randn(5, 3), torch.randn(7, 3), torch.arange(5)
    monkeypatch.setenv("ELMAN_BACKEND", "reference")
    assert not in_memory(x, weight)
    assert torch.equal(ours(x, weight, target), F.cross_entropy(x @ weight.t(), target))


# A head


def test_a_head_that_is_more_than_a_linear_layer_is_called() -> None:
    torch.manual_seed(0)
    x, target, seen = torch.randn(5, 3), torch.arange(5), []
    plain, hooked, normed = (
        nn.Linear(3, 7),
        nn.Linear(3, 7),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 7)),
    )
    hooked.register_forward_hook(lambda _, __, out: seen.append(out))
    for head in (plain, hooked, normed, nn.Sequential(nn.Tanh(), nn.Linear(3, 7))):
        for by in (False, True):
            found = head_cross_entropy(head, x, target, reduction="sum", label_smoothing=0.1, by_torch=by)
            assert_near(found.loss, F.cross_entropy(head(x), target, reduction="sum", label_smoothing=0.1))
            assert_near(found.nll, F.cross_entropy(head(x), target, reduction="none"))
    assert len(seen) == 6


# What does not fit


def test_what_does_not_fit_is_said_before_any_work() -> None:
    x, weight, bias, target = (
        torch.randn(4, 3),
        torch.randn(7, 3),
        torch.randn(7),
        torch.zeros(4, dtype=torch.long),
    )
    wrong: list[tuple[type[Exception], str, tuple[Any, ...], dict[str, Any]]] = [
        (ValueError, r"x has shape \(4, 2\); expected \(\.\.\., 3\)", (x[:, :2], weight, target), {}),
        (ValueError, "expected \\(K, H\\)", (x, bias, target), {}),
        (ValueError, r"target has shape \(3,\); expected \(4,\)", (x, weight, target[:3]), {}),
        (ValueError, "target is torch.float32; expected whole numbers", (x, weight, torch.rand(4, 7)), {}),
        (ValueError, r"bias has shape \(3,\); expected \(7,\)", (x, weight, target, bias[:3]), {}),
        (ValueError, r"class_weight has shape \(3,\)", (x, weight, target), {"class_weight": bias[:3]}),
        (ValueError, "reduction is 'max'; expected one of", (x, weight, target), {"reduction": "max"}),
        (ValueError, "label_smoothing is 2; expected a share", (x, weight, target), {"label_smoothing": 2}),
        (IndexError, "target 1 of 4 is class 7; expected 0 to 6", (x, weight, torch.tensor([0, 7, 1, 1])), {}),
        (IndexError, "is class -100; expected .* ignore_index, -1", (x, weight, target - 100), {"ignore_index": -1}),
    ]  # fmt: skip
    for kind, message, given, options in wrong:
        with pytest.raises(kind, match=message):
            linear_cross_entropy(*given, **options)
    with pytest.raises(IndexError):
        F.cross_entropy(x @ weight.t(), torch.tensor([0, 7, 1, 1]))
    with pytest.raises(ValueError, match="reduction is"):
        LinearCrossEntropy(3, 7, reduction="max")  # type: ignore[arg-type]


def test_it_is_in_the_table_of_contents() -> None:
    assert elman.nn.LinearCrossEntropy is LinearCrossEntropy
