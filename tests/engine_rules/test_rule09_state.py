"""Rule 9, the state: its dtypes settle, integers carry no gradient, results never lie in the memory of inputs."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from battery.cells_simple import H, I
from battery.probes import Net, Probe, Probes, assert_probe
from battery.registry import Case
from battery.running import Run, assert_matches
from elman.engine import EngineError, EngineWarning, Scan

probe = Probes()


def _h(B: int) -> Tensor:
    return torch.randn(B, H)


@probe(state=lambda B: (_h(B), torch.randint(0, 3, (B,))))
def integer_state(self: Net, x: Tensor, state: Any) -> Any:
    h, n = state
    h = torch.tanh(self.w(x) + self.u(h) / (1 + n.unsqueeze(1)))
    return n, (h, n + 1)


@probe(state=lambda B: (_h(B), torch.zeros(B, H, dtype=torch.bool)))
def boolean_state(self: Net, x: Tensor, state: Any) -> Any:
    h, seen = state
    h = torch.tanh(self.w(x) + self.u(h) * (~seen))
    return h, (h, seen | (h > 0.5))


@probe("any", state=lambda B: (_h(B), torch.zeros(B, dtype=torch.int32), torch.zeros(B, dtype=torch.uint8)))
def small_integers_that_wrap(self: Net, x: Tensor, state: Any) -> Any:
    h, a, b = state
    h = torch.tanh(self.w(x) + self.u(h) + a.unsqueeze(1) * 0.1)
    return h, (h, (a + 7) % 5, b + 200)


@probe("any", state=lambda B: (_h(B), torch.full((B,), 2**53)))
def integer_beyond_the_mantissa(self: Net, x: Tensor, state: Any) -> Any:
    """2**53 + 1 is no float64."""
    h, n = state
    h = torch.tanh(self.w(x) + self.u(h) + (n % 2).unsqueeze(1))
    return n, (h, n + 1)


@probe("any", state=lambda B: (_h(B), torch.randint(-9, 9, (B,))))
def integer_division(self: Net, x: Tensor, state: Any) -> Any:
    h, n = state
    h = torch.tanh(self.w(x) + self.u(h) + (n // 2).unsqueeze(1) % 3)
    return n >> 1, (h, n * 3 - 1)


@probe(state=lambda B: (_h(B), torch.randn(B, H, 3)))
def state_of_rank_three(self: Net, x: Tensor, state: Any) -> Any:
    h, A = state
    read = torch.bmm(A, torch.softmax(torch.bmm(A.transpose(1, 2), h.unsqueeze(2)), 1)).squeeze(2)
    h = torch.tanh(self.w(x) + self.u(read))
    return h, (h, 0.9 * A + h.unsqueeze(2) * x[:, :3].unsqueeze(1))


@probe("any", state=lambda B: torch.randn(B, 2, 3, 2, 2))
def state_of_rank_five(self: Net, x: Tensor, h: Tensor) -> Any:
    a = torch.tanh(h.permute(0, 2, 1, 4, 3).flip(-1).reshape(h.shape) + x[:, :2].view(-1, 2, 1, 1, 1))
    return a.sum((1, 2)), a


@probe(state=lambda B: torch.randn(B))
def state_without_features(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x).sum(-1) + h * self.p.sum())
    return h, h


@probe(state=lambda B: (_h(B), torch.randn(B, I)))
def state_returned_unchanged(self: Net, x: Tensor, state: Any) -> Any:
    h, fixed = state
    h = torch.tanh(self.w(x + fixed) + self.u(h))
    return fixed, (h, fixed)


@probe()
def nothing_but_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    return h, h


@probe()
def output_is_the_old_state(self: Net, x: Tensor, h: Tensor) -> Any:
    return h, torch.tanh(self.w(x) + self.u(h))


@probe()
def output_is_a_view_of_the_state(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (h[:, :3], h.view(-1, 1, H), h), h


@probe()
def output_is_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    return x, torch.tanh(self.w(x) + self.u(h))


@probe()
def output_is_a_view_of_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    return (x[:, 1:3], x.unsqueeze(-1)), torch.tanh(self.w(x) + self.u(h))


@probe(x=lambda T, B: torch.randn(T, B, H))
def state_is_the_input(self: Net, x: Tensor, h: Tensor) -> Any:
    return self.u(h) + x, x


@probe(state=lambda B: (_h(B), _h(B)))
def states_swapped(self: Net, x: Tensor, state: Any) -> Any:
    a, b = state
    return a * b, (b, a)


@probe(state=lambda B: (_h(B), _h(B), _h(B)))
def states_in_a_ring(self: Net, x: Tensor, state: Any) -> Any:
    a, b, c = state
    return c, (torch.tanh(self.w(x) + self.u(c)), a, b)


@probe(state=lambda B: (_h(B), _h(B)))
def one_tensor_for_two_states(self: Net, x: Tensor, state: Any) -> Any:
    h = torch.tanh(self.w(x) + self.u(state[0] + 0.5 * state[1]))
    return h, (h, h)


@probe(context=lambda B: torch.randn(B, H))
def output_is_the_context(self: Net, x: Tensor, h: Tensor, context: Tensor) -> Any:
    return (context, self.p.expand_as(h)), torch.tanh(self.w(x) + self.u(h) + context)


@probe(context=lambda B: torch.randn(B, H))
def state_becomes_the_context(self: Net, x: Tensor, h: Tensor, context: Tensor) -> Any:
    return torch.tanh(self.w(x) + self.u(h)), context


@probe("any")
def state_becomes_a_parameter(self: Net, x: Tensor, h: Tensor) -> Any:
    return torch.tanh(self.w(x) + self.u(h)), self.p.expand(x.size(0), H)


@probe("any")
def state_becomes_a_constant(self: Net, x: Tensor, h: Tensor) -> Any:
    return torch.tanh(self.w(x) + self.u(h)), torch.full_like(h, 0.5)


@probe()
def state_that_is_not_read(self: Net, x: Tensor, h: Tensor) -> Any:
    return self.v(torch.tanh(self.w(x))), torch.tanh(self.w(x))


@probe(x=lambda T, B: (torch.randn(T, B, I), torch.randn(T, B, 3)))
def input_that_is_not_read(self: Net, x: Any, h: Tensor) -> Any:
    return h, torch.tanh(self.w(x[0]) + self.u(h))


@probe()
def constant_output(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (torch.ones_like(h), h.detach() > 0, h.argmax(-1), torch.zeros(x.size(0), 2)), h


@probe("any", state=lambda B: torch.zeros(B, H, dtype=torch.float32))
def state_that_becomes_double(self: Net, x: Tensor, h: Tensor) -> Any:
    """A float32 carry-in beside float64 parameters: promoted after one step."""
    h = torch.tanh(self.w(x) + self.p * h)
    return h, h


@probe(
    "any",
    state=lambda B: torch.zeros(B, H, dtype=torch.long),
    calls=((4, 5, ()), (3, H, ("reverse",)), (1, 1, ())),
)
def state_that_becomes_real(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.p * h)
    return h, h


@probe("any", state=lambda B: torch.randn(B, H, dtype=torch.complex128))
def complex_state(self: Net, x: Tensor, h: Tensor) -> Any:
    """A diagonal linear recurrence in the complex plane."""
    h = h * torch.polar(torch.sigmoid(self.p), self.p) + self.w(x)
    return h.real, h


@probe("any")
def float_output_of_another_kind(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h))
    return (h.float(), h.to(torch.bfloat16), h.double().long()), h


@probe("any")
def single_precision_inside(self: Net, x: Tensor, h: Tensor) -> Any:
    h = torch.tanh(self.w(x) + self.u(h)).float().double()
    return h, h


class Named(NamedTuple):
    h: Tensor
    c: Tensor


@probe(state=lambda B: Named(_h(B), _h(B)))
def named_state(self: Net, x: Tensor, state: Named) -> Any:
    c = 0.5 * state.c + torch.tanh(self.w(x) + self.u(state.h))
    return {"c": c, "h": [state.h]}, Named(torch.tanh(c), c)


@probe(state=lambda B: [_h(B), (_h(B),)])
def state_in_a_list(self: Net, x: Tensor, state: Any) -> Any:
    h = torch.tanh(self.w(x) + self.u(state[0]) + state[1][0])
    return h, [h, (state[0],)]


@probe.all
def test_probe(probe: Probe) -> None:
    assert_probe(probe)


@pytest.mark.slow
@probe.all
def test_probe_on_the_reference(probe: Probe) -> None:
    assert_probe(probe, "reference")


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "nothing_but_the_state",
        "output_is_the_input",
        "state_is_the_input",
        "output_is_the_context",
        "state_returned_unchanged",
    ],
)
def test_results_are_their_own(name: str, grad: bool, backend: str | None) -> None:
    """Writing into a result changes no input and no other result."""
    case = next(p for p in probe if p.name == name).case
    cell, inputs = case.cell(), case.inputs(3, 4)
    with torch.set_grad_enabled(grad):
        result = Run(Scan(cell, backend=backend))(
            inputs.x, inputs.state, context=inputs.context, return_states=True
        )
    given = [leaf for leaf in pytree.tree_leaves(tuple(inputs)) if leaf is not None] + list(cell.parameters())
    leaves = pytree.tree_leaves(tuple(result))
    kept = [leaf.detach().clone() for leaf in given]
    for k, leaf in enumerate(leaves):
        others = [other.detach().clone() for other in leaves[k + 1 :]]
        leaf.detach().fill_(123)
        for other, before in zip(leaves[k + 1 :], others, strict=True):
            assert torch.equal(other.detach(), before), "two results share their memory"
    for leaf, before in zip(given, kept, strict=True):
        assert torch.equal(leaf.detach(), before), "a result lies in the memory of an input"


def test_autocast_turns_the_state() -> None:
    """Under autocast the state becomes bfloat16 after one step, as in the loop; T=1 and lengths too."""
    case = Case("cell", lambda: nn.GRUCell(I, H), lambda T, B: torch.randn(T, B, I), _h)
    lin = Case("lin", _Linear, lambda T, B: torch.randn(T, B, I), _h)
    for which in (case, lin):
        cell, twin = which.cell(torch.float32), which.cell(torch.float32)
        run = Run(Scan(cell))
        with torch.autocast("cpu", torch.bfloat16):
            for steps, rows in ((4, 3), (1, 3), (7, 1)):
                assert_matches(
                    run, cell, twin, which.inputs(steps, rows, torch.float32), dtype=torch.bfloat16
                )
        assert run.scan.path != "loop", run.warned


class _Linear(nn.Module):
    """The state is what a Linear gives: bfloat16 under autocast."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(I + H, H)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.lin(torch.cat([x, h.to(x.dtype)], -1))
        return h.float() * 2, h


BAD: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "shape_changes": (lambda x, h: (h, h[:, :2]), torch.zeros(3, H), {}),
    "structure_changes": (lambda x, h: (h, (h, h)), torch.zeros(3, H), {}),
    "not_a_tensor": (lambda x, h: (h, 1.0), torch.zeros(3, H), {}),
    "state_of_another_batch": (lambda x, h: (h, h), torch.zeros(4, H), {}),
    "lengths_of_another_batch": (lambda x, h: (h, h), torch.zeros(3, H), {"lengths": torch.tensor([1, 2])}),
    "lengths_too_long": (lambda x, h: (h, h), torch.zeros(3, H), {"lengths": torch.tensor([1, 2, 9])}),
    "lengths_negative": (lambda x, h: (h, h), torch.zeros(3, H), {"lengths": torch.tensor([1, -2, 3])}),
    "lengths_real": (lambda x, h: (h, h), torch.zeros(3, H), {"lengths": torch.tensor([1.0, 2.5, 3.0])}),
    "reset_of_another_shape": (lambda x, h: (h, h), torch.zeros(3, H), {"reset": torch.zeros(3, 4).bool()}),
    "no_state_at_all": (lambda x, s: (x, ()), (), {}),
    "no_steps": (lambda x, h: (h, h), torch.zeros(3, H), {"lengths": "none"}),
    "initial_of_another_shape": (lambda x, h: (h, h), torch.zeros(3, H), {"initial_state": torch.zeros(3, H + 1)}),
    "initial_of_another_structure": (
        lambda x, h: (h, h), torch.zeros(3, H), {"initial_state": (torch.zeros(3, H), torch.zeros(3, H))},
    ),
    "context_of_another_batch": (lambda x, h, c: (h, h), torch.zeros(3, H), {"context": torch.zeros(5, 2)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name: str) -> None:
    """A clear error before any work, whatever the path."""
    step, state, options = BAD[name]
    if "reset" in options or "initial_state" in options:
        options = {"reset": torch.zeros(4, 3).bool(), **options}
    x = torch.randn(4, 3, I)
    if options.get("lengths") == "none":
        x, options = x[:0], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EngineWarning)
        with pytest.raises((EngineError, ValueError, TypeError)) as caught:
            Scan(step)(x, state, **options)
    assert len(str(caught.value)) > 20


@pytest.mark.parametrize("fallback", ["quiet", "", None])
def test_bad_option_is_refused(fallback: Any) -> None:
    """Unknown words in the constructor."""
    with pytest.raises((EngineError, ValueError), match="fallback"):
        Scan(lambda x, h: h, fallback=fallback)
    with pytest.raises((EngineError, ValueError), match="backend"):
        Scan(lambda x, h: h, backend="cuda-graph")


def test_errors_of_the_step_are_its_own() -> None:
    """A step that raises, raises the same through the engine: no fallback hides it, no other error covers it."""

    def step(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        raise KeyError("the user's own")

    with pytest.raises(KeyError, match="the user's own"):
        Run(Scan(step))(torch.randn(4, 3, I), torch.zeros(3, H))

    def misfit(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return h, torch.tanh(x @ torch.randn(I + 1, H) + h)

    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied|size"):
        Run(Scan(misfit))(torch.randn(4, 3, I), torch.zeros(3, H))


def test_what_has_no_gradient_asks_for_none() -> None:
    """A detached or constant output does not require a gradient: y.numpy() works as after the loop."""
    lin = nn.Linear(H, H)

    def step(x: Tensor, h: Tensor) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
        h = torch.tanh(lin(x) + h)
        return (h, h.detach() * 2, torch.ones_like(h)), h

    result = Run(Scan(step))(torch.randn(3, 2, H), torch.zeros(2, H))
    assert [y.requires_grad for y in result.y] == [True, False, False]
    assert result.state.requires_grad
