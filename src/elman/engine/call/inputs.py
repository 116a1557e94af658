"""The tensors of a call: gathered by role and checked before any work; small samples of them for tracing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from elman.engine.call.loop import all_rows, plain_loop
from elman.engine.call.masks import taken
from elman.engine.errors import EngineError
from elman.engine.structure import ScanResult, TreeSpec, flatten, unflatten
from elman.engine.tracing.trace import Sample

__all__ = [
    "Inputs",
    "Manner",
    "WithHoles",
    "batch_sizes",
    "common_length",
    "gather",
    "kept",
    "manner_of",
    "sample",
    "small",
    "with_holes",
]

_PRIMES = tuple(p for p in range(31, 400) if all(p % d for d in range(2, p)))


@dataclass(slots=True)
class Inputs:
    """The tensors of a call as flat lists, with their structures."""

    x: list[Tensor]
    s: list[Tensor]
    initial: list[Tensor]
    c: list[Tensor]
    x_spec: TreeSpec
    s_spec: TreeSpec
    c_spec: TreeSpec | None
    lengths: Tensor | None = None
    reset: Tensor | None = None
    reverse: bool = False
    return_states: bool = False

    @property
    def T(self) -> int:
        return self.x[0].shape[0]

    @property
    def B(self) -> int:
        return self.x[0].shape[1]

    def key(self) -> tuple[Any, ...]:
        """What a trace depends on beside its guard: kinds of tensors, structure, device, grad mode, autocast; and the
        sizes beside T and B."""
        tensors = (*self.x, *self.s, *self.c)
        kinds = tuple((t.dim(), t.dtype) for t in tensors)
        device = self.x[0].device
        cast = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
        default = torch.get_default_dtype()
        kind = (kinds, self.x_spec, self.s_spec, self.c_spec, device, torch.is_grad_enabled(), cast, default)
        return kind, self.sizes()

    def sizes(self) -> tuple[int, ...]:
        """All sizes of x, state and context beside T and B, one after the other."""
        found: list[int] = []
        for t in self.x:
            found += t.shape[2:]
        for t in (*self.s, *self.c):
            found += t.shape[1:]
        return tuple(found)

    def loop(self, step: Callable[..., Any]) -> ScanResult:
        """This call on the plain loop."""
        if self.lengths is None and self.reset is None:
            extra = () if self.c_spec is None else (unflatten(self.c, self.c_spec),)
            return all_rows(
                step, self.x, self.x_spec, self.s, self.s_spec, extra, self.reverse, self.return_states
            )
        return plain_loop(
            step, unflatten(self.x, self.x_spec), unflatten(self.s, self.s_spec),
            context=None if self.c_spec is None else unflatten(self.c, self.c_spec),
            initial_state=unflatten(self.initial, self.s_spec), lengths=self.lengths, reset=self.reset,
            reverse=self.reverse, return_states=self.return_states,
        )  # fmt: skip


@dataclass(slots=True)
class WithHoles(Inputs):
    """A call with a mask, of which the steps are not moved."""

    mask: Tensor | None = None

    def loop(self, step: Callable[..., Any]) -> ScanResult:
        """This call on the plain loop: without holes, each row's steps moved together."""
        steps = None if self.mask is None else taken(self.mask, self.lengths)
        x, lengths = self.x, self.lengths
        if steps is not None:
            x, lengths = [steps.steps_in(v) for v in x], steps.lengths
        moved = Inputs(
            x,
            self.s,
            self.initial,
            self.c,
            self.x_spec,
            self.s_spec,
            self.c_spec,
            lengths,
            reverse=self.reverse,
        )
        result = moved.loop(step)
        return result if steps is None else result._replace(y=steps.tree_out(result.y))


class Manner(NamedTuple):
    """What decides who carries out a call: which of its options are there. apart: the state that resets lead to is
    not the one to start from; chunks: `checkpoint_every`; stream: one step after the other; operator: as the one
    operator that a compiler or an exported program calls; packed: on weights that are packed before;
    holes: with a mask, and no step moved."""

    lengths: bool = False
    reset: bool = False
    reverse: bool = False
    states: bool = False
    apart: bool = False
    chunks: bool = False
    stream: bool = False
    operator: bool = False
    packed: bool = False
    holes: bool = False


def with_holes(given: Inputs, mask: Tensor) -> WithHoles:
    """A call without resets, with a mask."""
    return WithHoles(
        given.x, given.s, given.initial, given.c, given.x_spec, given.s_spec, given.c_spec, given.lengths,
        reverse=given.reverse, mask=mask,
    )  # fmt: skip


def manner_of(given: Inputs, every: int | None) -> Manner:
    """The manner of a call in chunks of `every` steps, or in one piece."""
    return Manner(
        given.lengths is not None, given.reset is not None, given.reverse, given.return_states,
        given.initial is not given.s, every is not None,
    )  # fmt: skip


def gather(
    x: Any,
    state: Any,
    context: Any,
    initial_state: Any,
    lengths: Any,
    reset: Any,
    reverse: bool,
    return_states: bool,
) -> Inputs:
    """Check and flatten the arguments of a call. Raises EngineError with what was given and what was expected."""
    xs, x_spec = flatten(x)
    states, s_spec = flatten(state)
    cs, c_spec = flatten(context)
    _check_tensors("x", xs, 2, "(T, B, ...)")
    _check_tensors("state", states, 1, "(B, ...)")
    T, B = xs[0].shape[:2]
    if T == 0:
        raise EngineError(f"x has shape {tuple(xs[0].shape)}: no steps; expected T >= 1 as its first size")
    for v in xs:
        if v.shape[:2] != (T, B):
            raise EngineError(
                f"the tensors of x begin with {(T, B)} and {tuple(v.shape[:2])}; expected the same (T, B)"
            )
    if context is not None:
        _check_tensors("context", cs, 1, "(B, ...)")
    for what, tensors in (("state", states), ("context", cs if context is not None else [])):
        for v in tensors:
            if v.shape[0] != B:
                raise EngineError(
                    f"{what} has shape {tuple(v.shape)} where x has a batch of {B}; expected ({B}, ...)"
                )
    unused = initial_state is None and reset is None
    initial = states if unused else _initial(initial_state, states, s_spec, B)
    return Inputs(
        xs, states, initial, cs if context is not None else [], x_spec, s_spec, c_spec if context is not None else None,
        _lengths(lengths, T, B), _reset(reset, T, B), bool(reverse), bool(return_states),
    )  # fmt: skip


def _check_tensors(what: str, leaves: Sequence[Any], rank: int, shape: str) -> None:
    if not leaves:
        raise EngineError(f"{what} has no tensors; expected {shape}")
    for v in leaves:
        if not isinstance(v, Tensor):
            raise EngineError(f"{what} holds a {type(v).__name__}; expected tensors {shape}")
        if v.dim() < rank:
            raise EngineError(f"{what} has shape {tuple(v.shape)}; expected {shape}")


def _initial(initial_state: Any, states: list[Tensor], spec: TreeSpec, B: int) -> list[Tensor]:
    if initial_state is None:
        return [torch.zeros_like(s) for s in states]
    leaves, given = flatten(initial_state)
    if given != spec:
        raise EngineError(f"initial_state has the structure {given}; expected that of the state, {spec}")
    for a, s in zip(leaves, states, strict=True):
        if a.shape != s.shape:
            raise EngineError(
                f"initial_state has shape {tuple(a.shape)}; expected that of the state, {tuple(s.shape)}"
            )
    return leaves


def _lengths(lengths: Any, T: int, B: int) -> Tensor | None:
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths)
    if lengths.dtype.is_floating_point or lengths.dtype == torch.bool or lengths.shape != (B,):
        raise EngineError(
            f"lengths is {lengths.dtype} {tuple(lengths.shape)}; expected integers of shape ({B},)"
        )
    if torch.compiler.is_compiling():  # only known when it runs: the operator looks
        return lengths
    if B and (int(lengths.min()) < 0 or int(lengths.max()) > T):
        raise EngineError(
            f"lengths lie between {int(lengths.min())} and {int(lengths.max())}; expected 0 to {T}, the steps of x"
        )
    return kept(lengths)


def _reset(reset: Any, T: int, B: int) -> Tensor | None:
    if reset is None:
        return None
    if not isinstance(reset, Tensor) or reset.shape != (T, B) or reset.dtype != torch.bool:
        what = f"{reset.dtype} {tuple(reset.shape)}" if isinstance(reset, Tensor) else type(reset).__name__
        raise EngineError(f"reset is {what}; expected a boolean tensor (T, B) = {(T, B)}")
    return kept(reset)


def kept(marks: Tensor) -> Tensor:
    """Lengths or resets as a backward will still find them, whatever the caller does with the memory until then."""
    return marks.clone() if torch.is_grad_enabled() and not torch.compiler.is_compiling() else marks


def common_length(x: Any, lengths: Any) -> int | None:
    """The length that all rows have, at least 1; None where they differ, or where that is not seen at a glance.

    What is wrong is not seen either: `gather` looks.
    """
    if torch.compiler.is_compiling() or not isinstance(lengths, Tensor) or lengths.device.type != "cpu":
        return None
    first = flatten(x)[0][:1]
    if not first or not isinstance(first[0], Tensor) or first[0].dim() < 2 or lengths.dtype.is_floating_point:
        return None
    T, B = first[0].shape[:2]
    if lengths.dtype == torch.bool or lengths.shape != (B,) or B == 0:
        return None
    length = int(lengths[0])
    if not 0 < length <= T or (B > 1 and not bool((lengths == length).all())):
        return None
    return length


# ---- small samples


def batch_sizes(given: Inputs, others: Iterable[Tensor], count: int = 1) -> list[tuple[int, int]]:
    """Pairs of primes that divide no other size, of the inputs or of the tensors that the step may read: for the batch
    size, and for so many sizes in all that are to vary."""
    sizes = {*given.sizes(), *(n for t in others for n in t.shape)}
    free = [p for p in _PRIMES if all(n % p or not n for n in sizes)]
    free += [p for p in reversed(_PRIMES) if p not in free]
    return [(free[2 * k], free[2 * k + 1]) for k in range(count)]


def _like(v: Tensor, grad: bool, dtype: torch.dtype | None = None) -> Tensor:
    """The given rows, finite, as a leaf of their own; with a little noise where they are all the same number."""
    v = v.detach()
    if dtype is not None:
        v = v.to(dtype)
    if not v.dtype.is_floating_point:
        return v.clone()
    v = torch.nan_to_num(v, 0.0, 0.0, 0.0)
    if v.numel() and bool((v == v.reshape(-1)[0]).all()):
        v = v + 0.1 * torch.randn(v.shape, dtype=torch.float32, device=v.device).to(v.dtype)
    return v.clone(memory_format=torch.contiguous_format).requires_grad_(grad)


def _rows(v: Tensor, rows: int, axis: int) -> Tensor:
    n = v.shape[axis]
    return v.index_select(axis, torch.arange(rows, device=v.device) % n)


def _going(given: Inputs) -> tuple[int, Tensor]:
    """Steps and rows of a call that are no padding."""
    if given.lengths is None:
        return given.T, torch.arange(given.B)
    lengths = given.lengths.to("cpu")
    going = (lengths > 0).nonzero().squeeze(1)
    return int(lengths[going].min()), going


def sample(
    given: Inputs, rows: int, dtypes: Sequence[torch.dtype], grad: bool, sizes: Sequence[int] | None = None
) -> Sample:
    """One step's inputs for `rows` rows, taken from those of a call; with other sizes than it has, in its order."""
    _, going = _going(given)
    left = iter(given.sizes() if sizes is None else sizes)

    def few(v: Tensor) -> Tensor:
        v = _rows(v, rows, 0)
        for axis, n in enumerate(v.shape[1:], start=1):
            if (wanted := next(left)) != n:
                v = _rows(v, wanted, axis)
        return v

    x = [_like(few(v.detach()[0, going]), grad) for v in given.x]
    s = [_like(few(v.detach()[going]), grad, d) for v, d in zip(given.s, dtypes, strict=True)]
    c = [_like(few(v.detach()[going]), grad) for v in given.c]
    return Sample(x, s, c, given.x_spec, given.s_spec, given.c_spec)


def small(
    given: Inputs, steps: int, rows: int, dtypes: Sequence[torch.dtype], grad: bool, manner: Manner
) -> Inputs:
    """A call of a few steps and rows like the given one, with its pattern of gradients, in a manner."""

    def wants(t: Tensor) -> bool:
        return grad and t.requires_grad

    known, going = _going(given)
    x = [_like(_rows(_rows(v.detach()[:known][:, going], steps, 0), rows, 1), wants(v)) for v in given.x]
    s = [_like(_rows(v.detach()[going], rows, 0), grad, d) for v, d in zip(given.s, dtypes, strict=True)]
    c = [_like(_rows(v.detach()[going], rows, 0), wants(v)) for v in given.c]
    initial = s
    if manner.apart:
        targets = zip(given.initial, dtypes, strict=True)
        initial = [_like(_rows(v.detach()[going], rows, 0), wants(v), d) for v, d in targets]
    device, reset = x[0].device, None
    lengths = (
        torch.tensor([steps - 1, steps, 0][-rows:] if rows < 4 else [steps] * rows)
        if manner.lengths
        else None
    )
    if manner.reset:
        reset = (torch.arange(steps * rows, device=device) % 3 == 1).reshape(steps, rows)
    return Inputs(
        x,
        s,
        initial,
        c,
        given.x_spec,
        given.s_spec,
        given.c_spec,
        lengths,
        reset,
        manner.reverse,
        manner.states,
    )
