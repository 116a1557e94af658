"""What a step does, written down: each aten operation that reaches the dispatcher, on real tensors."""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from elman.engine.errors import NotSupported
from elman.engine.origins import OURS
from elman.engine.program.ops import OPS
from elman.engine.structure import leaves_of, mapped
from elman.engine.tracing.complexes import complex_call, is_complex_call
from elman.engine.tracing.decompose import (
    BY_NUMBERS,
    DECOMPOSITIONS,
    POOLS,
    WHOLE,
    Numbered,
    library_decomposition,
    multi_head_attention,
    pool,
)

__all__ = ["Record", "Tracer", "record", "tensors_in"]

aten = torch.ops.aten
_READS_A_NUMBER = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.equal.default, aten.item.default,
                   aten.allclose.default}  # fmt: skip
SAME = {
    aten.detach.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.lift.default,
}
VIEWS = {
    aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.squeeze.default, aten.squeeze.dim,
    aten.squeeze.dims, aten.unsqueeze.default, aten._reshape_alias.default,
}  # fmt: skip
FILLED: dict[Any, float] = {
    aten.zeros_like.default: 0, aten.ones_like.default: 1, aten.zeros.default: 0, aten.ones.default: 1,
    aten.new_zeros.default: 0, aten.new_ones.default: 1, aten.empty_like.default: 0, aten.empty.memory_format: 0,
    aten.new_empty.default: 0, aten.empty_strided.default: 0, aten.new_empty_strided.default: 0,
}  # fmt: skip
FULL = {aten.full_like.default, aten.full.default, aten.new_full.default, aten.scalar_tensor.default}
_OPAQUE = {"numpy", "__array__", "tolist", "data_ptr", "untyped_storage", "storage", "__dlpack__"}
FILLS = {aten.fill.Scalar, aten.fill.Tensor}
_ONCE = "call the layer under torch.nn.utils.parametrize.cached(): one power iteration a call, as in a loop under it"
_COPIES = {aten._to_copy.default, aten.lift_fresh.default, aten.copy.default}


@dataclass(slots=True)
class Record:
    """One recorded operation, on real tensors (which it keeps alive, so that their ids stay theirs).

    source: file:line of the user's code, empty in the backward; word: the function that the user called there.
    """

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outs: list[Any]
    source: str
    word: str


class Tracer(TorchDispatchMode):
    """Writes down the operations that reach the dispatcher; larger ones are taken apart first.

    labels: names of tensors that were there before the step, by their memory, for messages. writes: whether what is
    recorded may write in place; where not, an operation whose parts would is recorded whole.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing to skip: torch.compile is not under way here, and asking would load it."""
        return False

    def __init__(self, labels: dict[int, str], rows: int, *, writes: bool = True) -> None:
        super().__init__()
        self.records: list[Record] = []
        self.mutates = False
        self.writes = writes
        self.calls = _Calls(rows)
        self.told: tuple[str, str] | None = None  # source and word of what is being replayed
        self._labels = labels
        self._own: set[int] = (
            set()
        )  # memory that the first of the records have made; counted where something is written
        self._counted = 0
        self._constants: dict[int, Tensor] = {}  # made from numbers that stand in the step
        self._apart: set[Any] = set()  # what is being taken apart as torch's library says

    def __torch_dispatch__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kind = _kind(func)
        if kind.reads_a_number:
            raise self.calls.not_supported(
                "the step reads a number out of a tensor (a branch on data, .item(), bool())",
                op=op_name(func), hint=_instead_of_a_number(),
            )  # fmt: skip
        with torch._C.DisableTorchFunction():
            out = self._taken_apart(func, kind, args, kwargs)
            if out is not NotImplemented:
                return out
            if kind.writes:
                self._check_mutation(func, args, kwargs)
            out = func(*args, **kwargs)
            outs = list(out) if isinstance(out, tuple | list) else [out]
            if func is aten.lift_fresh.default:
                self._constants[id(out)] = out
        source, word = self.told or (_source(), self.calls.word)
        self.records.append(Record(func, args, kwargs, outs, source, word))
        return out

    def _taken_apart(self, func: Any, kind: _Kind, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a larger operation gives, by smaller ones; NotImplemented for one that stays whole."""
        apart = kind.apart
        if apart is None and not kind.known and func not in self._apart:  # some are made of themselves
            apart = library_decomposition(func)
        if apart is None:
            return NotImplemented
        if func in BY_NUMBERS:
            args = self._with_numbers(args)
        count = len(self.records)
        outer, self._apart = self._apart, self._apart | {func}
        try:
            with self:
                out = apart(*args, **kwargs)
        finally:
            self._apart = outer
        if self.writes or not any(r.func._schema.is_mutable for r in self.records[count:]):
            return out
        del self.records[count:]
        self._counted = min(self._counted, count)
        return NotImplemented

    def _with_numbers(self, tree: Any) -> Any:
        """Arguments with the numbers of constant indices in their place: positions, of a mask those that are true."""

        def number(leaf: Any) -> Any:
            t = self._constants.get(id(leaf)) if isinstance(leaf, Tensor) else None
            if t is None or t.dim() != 1 or t.dtype not in (torch.int64, torch.bool):
                return leaf
            with _unwatched():
                return (t.nonzero().squeeze(1) if t.dtype == torch.bool else t).tolist()

        return mapped(tree, number)

    def _made(self) -> set[int]:
        """The memory that the step has made so far."""
        for entry in self.records[self._counted :]:
            for o in entry.outs:
                if isinstance(o, Tensor) and not self._foreign(o, entry.args, entry.kwargs):
                    self._own.add(storage_of(o))
        self._counted = len(self.records)
        return self._own

    def _foreign(self, out: Tensor, args: Any, kwargs: Any) -> bool:
        """Whether `out` looks into memory that was there before the step."""
        place = storage_of(out)
        return place not in self._own and any(storage_of(t) == place for t in tensors_in((args, kwargs)))

    def _check_mutation(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before it happens: nothing that was there before the step is written."""
        self.mutates = True
        own = self._made()
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            for t in tensors_in(args[i] if i < len(args) else kwargs.get(argument.name)):
                place = storage_of(t)
                if place not in own:
                    what = self._labels.get(place, f"a tensor {tuple(t.shape)} that it did not make")
                    raise self.calls.not_supported(
                        f"the step changes {what} in place ({op_name(func)})",
                        op=op_name(func), hint=_instead_of_writing(),
                    )  # fmt: skip


class BatchSize(int):
    """The batch size as the step sees it: good for shapes, refused where the step would decide by it."""

    __slots__ = ()
    __hash__ = int.__hash__


def _refuse_decision(compare: Callable[[int, Any], Any]) -> Callable[[BatchSize, Any], Any]:
    def method(self: BatchSize, other: Any) -> Any:
        if isinstance(other, BatchSize) or not isinstance(other, int) or other <= 0:
            return compare(int(self), int(other) if isinstance(other, int) else other)
        raise NotSupported(
            f"the step decides by the batch size{_at(_source())}", op="size",
            hint="let the step do the same for any number of rows",
        )  # fmt: skip

    return method


def _keep_knowing(compute: Callable[[int, Any], Any]) -> Callable[[BatchSize, Any], Any]:
    def method(self: BatchSize, other: Any) -> Any:
        result = compute(int(self), other)
        return BatchSize(result) if type(result) is int else result

    return method


for _name in ("eq", "ne", "lt", "le", "gt", "ge", "mod"):
    setattr(BatchSize, f"__{_name}__", _refuse_decision(getattr(operator, _name)))
for _name in ("add", "sub", "mul", "floordiv"):
    setattr(BatchSize, f"__{_name}__", _keep_knowing(getattr(operator, _name)))
for _name in ("add", "mul"):
    setattr(BatchSize, f"__r{_name}__", _keep_knowing(getattr(operator, _name)))


class _Calls(TorchFunctionMode):
    """Sees the user's calls before torch does: remembers their names, hands out batch sizes that know what they are,
    and refuses what takes a tensor's numbers out of torch unseen by the dispatcher."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.word = ""
        self.numbered = Numbered(rows, _unwatched)

    def not_supported(self, reason: str, *, op: str, hint: str) -> NotSupported:
        return NotSupported(f"{reason}{_at(_source())}", op=op, hint=hint)

    def __torch_function__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if (apart := self._apart(func, name, args, kwargs or {})) is not NotImplemented:
            return apart
        if name == "__len__" and args[0].dim() and args[0].shape[0] % self.rows == 0:
            raise self.not_supported(
                "the step calls len() of the batch", op="len", hint="x.shape[0] is understood"
            )
        if name in _OPAQUE and getattr(torch.Tensor, name, None) is func:
            raise self.not_supported(
                f"the step calls Tensor.{name}()", op=name, hint="stay with torch operations"
            )
        outer, self.word = self.word, self.word or name
        try:
            if is_complex_call(func, args, kwargs or {}):
                return complex_call(func, args, kwargs or {})
            out = func(*args, **(kwargs or {}))
        finally:
            self.word = outer
        if name == "__get__" or name in ("size", "numel"):
            return self._known_sizes(out)
        return out

    def _apart(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a call gives that is taken apart here, above autograd; NotImplemented for all others."""
        if name == "one_hot" and len(args) + len(kwargs) > 1:
            return _one_hot(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return multi_head_attention(*args, **kwargs)
        if name in POOLS:
            return pool(name, args, kwargs)
        if name == "index_select":
            return _index_select(self.rows, *args, **kwargs)
        if name in WHOLE:
            return WHOLE[name](*args, **kwargs)
        return (
            self._by_number(func, name, args, kwargs)
            if self.numbered.takes(name, args, kwargs)
            else NotImplemented
        )

    def _by_number(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = self.numbered.answer(func, name, args, kwargs)
        if found is NotImplemented:
            raise self.not_supported(
                "arange.default numbers the rows of the batch", op="arange.default",
                hint="m[torch.arange(B), i] is understood; else write the step row by row, without the batch axis",
            )  # fmt: skip
        return found

    def _known_sizes(self, out: Any) -> Any:
        if isinstance(out, torch.Size):
            return torch.Size([self._known_sizes(n) for n in out])
        return BatchSize(out) if type(out) is int and out and out % self.rows == 0 else out


def record(
    call: Callable[[Tracer], Any], labels: dict[int, str], rows: int, *, writes: bool = True
) -> tuple[Tracer, Any]:
    """Run `call` and write down what it does. rows: the batch size, a prime that divides no other size; writes: see
    `Tracer`."""
    tracer = Tracer(labels, rows, writes=writes)
    try:
        with tracer.calls, tracer, torch.autograd.set_detect_anomaly(False):
            return tracer, call(tracer)
    except NotSupported:
        raise
    except Exception as error:
        where = _at(_raised_at(error))
        raise NotSupported(
            f"the step failed while it was traced: {type(error).__name__}: {error}{where}",
            hint="see the error; the step has to run at any batch size",
        ) from error


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Any:
    """`F.one_hot`, which reads the largest index, without reading it."""
    if num_classes <= 0:
        return torch.nn.functional.one_hot(tensor)
    classes = torch.arange(num_classes, device=tensor.device)
    return (tensor.unsqueeze(-1) == classes).to(torch.int64)


def _index_select(rows: int, input: Tensor, dim: int, index: Tensor) -> Tensor:
    """`torch.index_select`; where each row picks of what all rows share, as `input[index]`, which is native."""
    by_row = index.dim() == 1 and index.shape[0] % rows == 0
    if by_row and dim in (0, -input.dim()) and input.dim() and input.shape[0] % rows:
        return input[index.to(torch.int64)]
    return input.index_select(dim, index)


def _unwatched() -> Any:
    from torch.utils._python_dispatch import _disable_current_modes

    return _disable_current_modes()


def op_name(func: Any) -> str:
    """An overload's name in the op table."""
    return str(func).removeprefix("aten.")


class _Kind(NamedTuple):
    """What is always so of an operation. apart: how it is taken apart here; known: it is an entry as it is."""

    reads_a_number: bool
    writes: bool
    apart: Callable[..., Any] | None
    known: bool


@functools.cache
def _kind(func: Any) -> _Kind:
    of_prims = func.namespace == "prims"  # what torch's own decompositions are made of
    apart = func._overloadpacket.impl_aten if of_prims else DECOMPOSITIONS.get(func)
    whole = (
        func in SAME or func in VIEWS or func in FILLED or func in FULL or func in FILLS or func in _COPIES
    )
    writes = func._schema.is_mutable
    return _Kind(func in _READS_A_NUMBER, writes, apart, whole or op_name(func) in OPS or writes)


def storage_of(t: Tensor) -> int:
    """The memory of a tensor, as a number."""
    return t.untyped_storage()._cdata


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """The tensors in a nest of lists, tuples and dicts."""
    return (leaf for leaf in leaves_of(tree) if isinstance(leaf, Tensor))


def _at(source: str) -> str:
    return f" at {source}" if source else ""


def _raised_at(error: BaseException) -> str:
    """file:line of the innermost frame of the user's code that an error went through."""
    found, at = "", error.__traceback__
    while at is not None:
        name = at.tb_frame.f_code.co_filename
        if _is_users(name):
            found = f"{name}:{at.tb_lineno}"
        at = at.tb_next
    return found


def _is_users(name: str) -> bool:
    return not name.startswith(("<", *OURS))


def _instead_of_a_number() -> str:
    """What to write where a number is read out of a tensor; it may be torch.distributions that does so."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        if frame.f_globals.get("__name__", "").startswith("torch.distributions"):
            return "give the distribution validate_args=False: it looks at its arguments, which is a branch on data"
        frame = frame.f_back
    return "use torch.where, or decide outside the step"


def _instead_of_writing() -> str:
    """What to write where a step writes in what was there before it; it may be the power iteration of spectral norm."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code.co_filename):
        name = frame.f_code.co_qualname
        if name == "SpectralNorm.compute_weight":
            return f"take torch.nn.utils.parametrizations.spectral_norm, and {_ONCE}"
        if name == "_SpectralNorm._power_method":
            return _ONCE
        frame = frame.f_back
    return "return it as part of the state instead"


def _source() -> str:
    """file:line of the user's code nearest to the top of the stack (none in the backward)."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if frame.f_code.co_name == "differentiate" and name.endswith("trace.py"):
            return ""
        if frame.f_code.co_name == "record" and name == __file__:
            return ""
        if _is_users(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
