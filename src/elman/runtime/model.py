"""A frozen model on numpy arrays: whole sequences, and one step at a time."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elman.runtime.library import Described, FrozenError, Pointer, SequenceArguments, library, refuse

__all__ = ["Array", "Frozen", "FrozenError", "Result", "Stream", "text_of"]

Numbers = npt.NDArray[Any]
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.int64))
_INPUT, _OUTPUT, _STATE, _CONTEXT = range(4)


class Array(NamedTuple):
    """An input, an output, a state or a context: its name, the shape of one row, its dtype, and whether it is one for
    each sequence and not for each step."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    per_sequence: bool


class Result(NamedTuple):
    """Of a whole run. y: `(T, B, ...)`, a tuple where the model has several outputs. state: a tuple of `(B, ...)`."""

    y: Any
    state: tuple[Numbers, ...]


class Frozen:
    """A frozen model; from a path, the bytes of a file, or another one. Any number of threads may use it at once."""

    def __init__(self, source: str | bytes | Frozen) -> None:
        if isinstance(source, Frozen):
            self.__dict__.update(source.__dict__, _owner=source)
            return
        found = library()
        handle = ctypes.c_void_p()
        if isinstance(source, bytes):
            wrong = found.elman_load_memory(source, len(source), ctypes.byref(handle))
        else:
            wrong = found.elman_load(os.fsencode(source), ctypes.byref(handle))
        if wrong:
            raise refuse()
        self._handle = handle
        weakref.finalize(self, found.elman_free, handle)
        self.inputs, self.outputs, self.states, self.contexts = map(self._arrays, range(4))
        self.can_step = bool(found.elman_can_step(handle))

    def _arrays(self, role: int) -> list[Array]:
        found, described = [], Described()
        for i in range(library().elman_count(self._handle, role)):
            if library().elman_describe(self._handle, role, i, ctypes.byref(described)):
                raise refuse()
            shape = tuple(described.shape[k] for k in range(described.dims))
            found.append(
                Array(described.name.decode(), shape, _DTYPES[described.type], bool(described.per_sequence))
            )
        return found

    def text(self, key: str) -> str | None:
        """What else the file says: "task", "made by", "labels", ..."""
        text = library().elman_text(self._handle, key.encode())
        return None if text is None else text.decode()

    def run(
        self,
        *x: npt.ArrayLike,
        lengths: npt.ArrayLike | None = None,
        context: Sequence[npt.ArrayLike] = (),
        state: Sequence[npt.ArrayLike] | None = None,
        threads: int = 1,
    ) -> Result:
        """All steps of x `(T, B, ...)`, one for each input.

        lengths: integers `(B,)`, zero allowed; the outputs behind a row's end are zeros. context: `(B, ...)` each.
        state: where to start, `(B, ...)` each; default: where the model begins. FrozenError for arrays that do not fit.
        """
        if len(x) != len(self.inputs):
            raise FrozenError(f"{len(x)} inputs are given; expected {len(self.inputs)}")
        first = np.asarray(x[0])
        T, B = (*first.shape, 0, 0)[:2]
        xs = _as_arrays(x, self.inputs, (T, B))
        ys = [np.empty((B, *a.shape) if a.per_sequence else (T, B, *a.shape), a.dtype) for a in self.outputs]
        final = [np.empty((B, *a.shape), a.dtype) for a in self.states]
        given = _as_arrays(context, self.contexts, (B,))
        start = None if state is None else _as_arrays(state, self.states, (B,))
        ends = None if lengths is None else _as_arrays([lengths], [_LENGTHS], (B,))[0]
        arguments = SequenceArguments(
            T, B, None if ends is None else ends.ctypes.data, _pointers(xs), _pointers(ys), _pointers(given),
            None if start is None else _pointers(start), _pointers(final), threads,
        )  # fmt: skip
        if library().elman_run(self._handle, ctypes.byref(arguments)):
            raise refuse()
        return Result(ys[0] if len(ys) == 1 else tuple(ys), tuple(final))

    def stream(self, batch: int = 1, *, context: Sequence[npt.ArrayLike] = ()) -> Stream:
        """The model one step at a time on a batch of rows. FrozenError for one that needs whole sequences."""
        return Stream(self, batch, context)


class Stream:
    """What `Frozen.stream` gives: `y_t = stream(x_t)`, the state carried from call to call. For one thread at a time.

    x_t `(B, ...)`, one for each input; y_t alike, a tuple where there are several outputs.
    """

    def __init__(self, model: Frozen, batch: int, context: Sequence[npt.ArrayLike] = ()) -> None:
        handle = ctypes.c_void_p()
        found = library()
        if found.elman_open(model._handle, batch, ctypes.byref(handle)):
            raise refuse()
        self.model, self.batch, self._handle = model, batch, handle
        weakref.finalize(self, found.elman_close, handle)
        self._step, self._step_rows = found.elman_step_all, found.elman_step_rows
        self._xs = (Pointer * max(len(model.inputs), 1))()
        self._ys = (Pointer * max(len(model.outputs), 1))()
        if context:
            self.set_context(*context)

    def __call__(self, *x: npt.ArrayLike) -> Any:
        """The next step of all rows."""
        return self._stepped(None, x, self.batch)

    def step_rows(self, rows: npt.ArrayLike, *x: npt.ArrayLike) -> Any:
        """The next step of some rows, each given once; the others stay. x and y have a row for each."""
        which = np.ascontiguousarray(rows, dtype=np.int64).reshape(-1)
        return self._stepped(which, x, len(which))

    def _stepped(self, rows: Numbers | None, x: Sequence[npt.ArrayLike], count: int) -> Any:
        model = self.model
        if len(x) != len(model.inputs):
            raise FrozenError(f"{len(x)} inputs are given; expected {len(model.inputs)}")
        xs = _as_arrays(x, model.inputs, (count,))
        ys = [np.empty((count, *a.shape), a.dtype) for a in model.outputs]
        for i, v in enumerate(xs):
            self._xs[i] = v.ctypes.data
        for i, v in enumerate(ys):
            self._ys[i] = v.ctypes.data
        if rows is None:
            wrong = self._step(self._handle, self._xs, self._ys)
        else:
            wrong = self._step_rows(self._handle, count, rows.ctypes.data, self._xs, self._ys)
        if wrong:
            raise refuse()
        return ys[0] if len(ys) == 1 else tuple(ys)

    def set_context(self, *context: npt.ArrayLike) -> None:
        """What stays the same over the steps, `(B, ...)` each."""
        given = _as_arrays(context, self.model.contexts, (self.batch,))
        if library().elman_set_context(self._handle, _pointers(given)):
            raise refuse()

    def reset(self, rows: npt.ArrayLike | None = None) -> None:
        """Back to where the model begins: all rows, or those where `rows`, bool `(B,)`, is true."""
        which = None if rows is None else _as_arrays([rows], [_ROWS], (self.batch,))[0]
        if library().elman_reset(self._handle, None if which is None else which.ctypes.data):
            raise refuse()

    @property
    def state(self) -> tuple[Numbers, ...]:
        """The states now, copies `(B, ...)`; assigning puts others in their places."""
        found = [np.empty((self.batch, *a.shape), a.dtype) for a in self.model.states]
        for i, array in enumerate(found):
            if library().elman_get_state(self._handle, i, array.ctypes.data):
                raise refuse()
        return tuple(found)

    @state.setter
    def state(self, value: Sequence[npt.ArrayLike]) -> None:
        for i, array in enumerate(_as_arrays(value, self.model.states, (self.batch,))):
            if library().elman_set_state(self._handle, i, array.ctypes.data):
                raise refuse()

    def row(self, row: int) -> bytes:
        """All states of one row: to go on with it later, in any row of any stream of the model, by `set_row`."""
        kept = ctypes.create_string_buffer(library().elman_row_size(self.model._handle))
        if library().elman_get_row(self._handle, row, kept):
            raise refuse()
        return kept.raw

    def set_row(self, row: int, kept: bytes) -> None:
        """Put what `row` gave into a row."""
        if len(kept) != library().elman_row_size(self.model._handle):
            raise FrozenError(
                f"the states of a row are {library().elman_row_size(self.model._handle)} bytes, not {len(kept)}"
            )
        if library().elman_set_row(self._handle, row, kept):
            raise refuse()


def text_of(model: Frozen, key: str) -> str:
    """What the file says by a key; FrozenError where it says nothing."""
    text = model.text(key)
    if text is None:
        raise FrozenError(f"the file has no {key}, which a model of its task needs")
    return text


_LENGTHS = Array("lengths", (), np.dtype(np.int64), False)
_ROWS = Array("rows", (), np.dtype(np.bool_), False)


def _pointers(arrays: Sequence[Numbers]) -> Any:
    return (Pointer * max(len(arrays), 1))(*[a.ctypes.data for a in arrays])


def _as_arrays(
    given: Sequence[npt.ArrayLike], wanted: Sequence[Array], rows: tuple[int, ...]
) -> list[Numbers]:
    """Contiguous arrays of the wanted dtypes; FrozenError for other shapes and other kinds of numbers."""
    if len(given) != len(wanted):
        raise FrozenError(
            f"{len(given)} arrays are given; expected {len(wanted)}: {', '.join(a.name for a in wanted)}"
        )
    found = []
    for value, a in zip(given, wanted, strict=True):
        array = np.asarray(value)
        if array.shape != rows + a.shape:
            raise FrozenError(f"{a.name} has the shape {array.shape}; expected {rows + a.shape}")
        if array.dtype != a.dtype and not np.can_cast(array.dtype, a.dtype, "same_kind"):
            raise FrozenError(f"{a.name} is {array.dtype}; expected {a.dtype}")
        found.append(np.ascontiguousarray(array, dtype=a.dtype))
    return found
