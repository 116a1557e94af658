"""Places in Python objects that hold something: what is there, whether it has changed, how to put it back.

A place is compared by the identity of what it holds. That is enough at any depth: what is held and can change itself
has places of its own.
"""

from __future__ import annotations

import random
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NOTHING", "Answer", "Bytes", "Cell", "Chance", "Class", "Entries", "Entry", "Function", "Items", "Member",
           "Objects", "Place", "Several", "Variable", "lookup"]  # fmt: skip


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()


class Place:
    """What `what` holds, as a list of objects."""

    __slots__ = ("held", "name", "what")
    in_core = True

    def __init__(self, what: Any, name: str) -> None:
        self.what, self.name = what, name
        self.held = self.now()

    def now(self) -> list[Any]:
        """What it holds at this moment."""
        raise NotImplementedError

    def put(self) -> None:
        """Make it hold again what it held."""
        raise NotImplementedError

    def add_to(self, core: Any) -> None:
        """Let the core watch it."""
        raise NotImplementedError

    def changed(self) -> bool:
        """Whether it holds anything else."""
        now = self.now()
        return len(now) != len(self.held) or any(
            a is not b for a, b in zip(now, self.held, strict=True) if b is not NOTHING
        )

    def label(self) -> str:
        """Its name, or that of what has changed in it."""
        return self.name


def _joined(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


class Entries(Place):
    """A dictionary: its keys in order, and its values.

    loose: keys whose values are not compared; with any, or none but a set, tensors are not either: they are read live.
    """

    __slots__ = ("loose",)

    def __init__(self, what: dict[Any, Any], name: str, loose: frozenset[Any] | None = None) -> None:
        self.loose = loose
        super().__init__(what, name)

    def now(self) -> list[Any]:
        return [v for pair in dict.items(self.what) for v in pair]

    def changed(self) -> bool:
        now, held = self.now(), self.held
        if len(now) != len(held):
            return True
        keys = zip(now[::2], held[::2], strict=True)
        values = zip(held[::2], now[1::2], held[1::2], strict=True)
        return any(a is not b for a, b in keys) or any(
            a is not b and not self._is_loose(k, b) for k, a, b in values
        )

    def _is_loose(self, key: Any, value: Any) -> bool:
        return self.loose is not None and (isinstance(value, Tensor) or key in self.loose)

    def label(self) -> str:
        before = {id(k): v for k, v in zip(self.held[::2], self.held[1::2], strict=True)}
        now = self.now()
        keys = {id(k): k for k in (*now[::2], *self.held[::2])}
        after = {id(k): v for k, v in zip(now[::2], now[1::2], strict=True)}
        other = (k for n, k in keys.items() if before.get(n, NOTHING) is not after.get(n, NOTHING))
        key = next((k for k in other if isinstance(k, str | int)), None)
        return self.name if key is None else _joined(self.name, key)

    def put(self) -> None:
        kind = next(k for k in (OrderedDict, defaultdict, dict) if isinstance(self.what, k))
        now = dict(dict.items(self.what))
        kind.clear(self.what)
        for key, value in zip(self.held[::2], self.held[1::2], strict=True):
            kind.__setitem__(self.what, key, now.get(key, value) if self._is_loose(key, value) else value)

    def add_to(self, core: Any) -> None:
        keys, values = self.held[::2], self.held[1::2]
        watched = [NOTHING if self._is_loose(k, v) else v for k, v in zip(keys, values, strict=True)]
        core.add_scan(self.what, keys, watched)


class Entry(Place):
    """One entry of a dictionary, there or not."""

    __slots__ = ("key",)

    def __init__(self, what: dict[Any, Any], name: str, key: Any) -> None:
        self.key = key
        super().__init__(what, name)

    def now(self) -> list[Any]:
        return [dict.get(self.what, self.key, NOTHING)]

    def changed(self) -> bool:
        return self.now()[0] is not self.held[0]

    def put(self) -> None:
        if self.held[0] is NOTHING:
            dict.pop(self.what, self.key, None)
        else:
            dict.__setitem__(self.what, self.key, self.held[0])

    def add_to(self, core: Any) -> None:
        core.add_entry(self.what, self.key, self.held[0])


class Items(Place):
    """The items of a list."""

    __slots__ = ()

    def now(self) -> list[Any]:
        return list.__getitem__(self.what, slice(None))

    def put(self) -> None:
        list.__setitem__(self.what, slice(None), self.held)

    def add_to(self, core: Any) -> None:
        core.add_list(self.what, self.held)


class Several(Place):
    """The items of a set, a deque, or of the order of an ordered dictionary."""

    __slots__ = ()

    def now(self) -> list[Any]:
        return list(self._base().__iter__(self.what))

    def _base(self) -> Any:
        return next(k for k in (deque, set, frozenset, OrderedDict) if isinstance(self.what, k))

    def put(self) -> None:
        base = self._base()
        if base is deque:
            deque.clear(self.what)
            deque.extend(self.what, self.held)
        elif base is set:
            set.clear(self.what)
            set.update(self.what, self.held)
        elif base is OrderedDict:
            for key in self.held:
                OrderedDict.move_to_end(self.what, key)

    def add_to(self, core: Any) -> None:
        core.add_iterated(self.what, self.held)


def lookup(kind: type, name: str) -> tuple[Any, Any]:
    """An attribute of a class and the class that has it; nothing twice where there is none."""
    for owner in type.__dict__["__mro__"].__get__(kind):
        value = type.__dict__["__dict__"].__get__(owner).get(name, NOTHING)
        if value is not NOTHING:
            return value, owner
    return NOTHING, NOTHING


class Class(Place):
    """Attributes of a class by name, inherited ones too."""

    __slots__ = ("names", "owners")

    def __init__(self, what: type, name: str, names: Sequence[str]) -> None:
        self.names = list(names)
        self.owners = [lookup(what, n)[1] for n in names]
        super().__init__(what, name)

    def now(self) -> list[Any]:
        return [lookup(self.what, n)[0] for n in self.names]

    def changed(self) -> bool:
        return any(a is not b for a, b in zip(self.now(), self.held, strict=True))

    def label(self) -> str:
        pairs = zip(self.names, self.now(), self.held, strict=True)
        return _joined(self.name, next((n for n, a, b in pairs if a is not b), ""))

    def put(self) -> None:
        for name, owner, value in zip(self.names, self.owners, self.held, strict=True):
            while (found := lookup(self.what, name))[1] is not owner:
                type.__delattr__(found[1], name)
            if found[0] is not value:
                type.__setattr__(owner, name, value)

    def add_to(self, core: Any) -> None:
        core.add_type(self.what, self.names, self.held)


class Member(Place):
    """A slot of an object; its class is one too."""

    __slots__ = ("slot",)

    def __init__(
        self, what: Any, name: str, slot: types.MemberDescriptorType | types.GetSetDescriptorType
    ) -> None:
        self.slot = slot
        super().__init__(what, name)

    def now(self) -> list[Any]:
        try:
            return [self.slot.__get__(self.what)]
        except AttributeError:
            return [NOTHING]

    def changed(self) -> bool:
        return self.now()[0] is not self.held[0]

    def put(self) -> None:
        if self.held[0] is NOTHING:
            self.slot.__delete__(self.what)
        else:
            self.slot.__set__(self.what, self.held[0])

    def add_to(self, core: Any) -> None:
        core.add_member(self.what, self.slot, self.held[0])


class Cell(Place):
    """A variable of an enclosing function."""

    __slots__ = ()

    def now(self) -> list[Any]:
        try:
            return [self.what.cell_contents]
        except ValueError:
            return [NOTHING]

    def changed(self) -> bool:
        return self.now()[0] is not self.held[0]

    def put(self) -> None:
        self.what.cell_contents = self.held[0]

    def add_to(self, core: Any) -> None:
        core.add_cell(self.what, self.held[0])


class Function(Place):
    """The code of a function and its defaults."""

    __slots__ = ()

    def now(self) -> list[Any]:
        return [self.what.__code__, self.what.__defaults__, self.what.__kwdefaults__]

    def put(self) -> None:
        self.what.__code__, self.what.__defaults__, self.what.__kwdefaults__ = self.held

    def add_to(self, core: Any) -> None:
        core.add_function(self.what)


class Variable(Place):
    """A context variable."""

    __slots__ = ()

    def now(self) -> list[Any]:
        variable: ContextVar[Any] = self.what
        try:
            return [variable.get()]
        except LookupError:
            return [NOTHING]

    def changed(self) -> bool:
        return self.now()[0] is not self.held[0]

    def put(self) -> None:
        self.what.set(self.held[0])

    def add_to(self, core: Any) -> None:
        core.add_variable(self.what, self.held[0])


class Bytes(Place):
    """The numbers of an array, a bytearray, an array of numpy."""

    __slots__ = ()

    def now(self) -> list[Any]:
        view = memoryview(self.what)
        return [view.format, view.shape, view.tobytes()]

    def changed(self) -> bool:
        return self.now() != self.held

    def put(self) -> None:
        _, shape, data = self.held
        if isinstance(self.what, np.ndarray):
            np.copyto(self.what, np.frombuffer(data, self.what.dtype).reshape(shape))
        else:
            self.what[:] = (
                type(self.what)(self.what.typecode, data) if hasattr(self.what, "typecode") else data
            )

    def add_to(self, core: Any) -> None:
        core.add_bytes(self.what)


class Objects(Place):
    """An array of numpy that holds Python objects."""

    __slots__ = ()
    in_core = False

    def now(self) -> list[Any]:
        return list(np.ndarray.flatten(self.what))

    def put(self) -> None:
        self.what.ravel()[:] = self.held


class Answer(Place):
    """What a call without arguments says: a plain value."""

    __slots__ = ()

    def now(self) -> list[Any]:
        return [self.what()]

    def changed(self) -> bool:
        return self.now() != self.held

    def put(self) -> None:
        """Nothing: whoever has set it has set it."""

    def add_to(self, core: Any) -> None:
        core.add_answer(self.what, self.held[0])


_States: dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]] = {
    random.Random: (random.Random.getstate, random.Random.setstate),
    torch.Generator: (lambda g: g.get_state().numpy().tobytes(),
                      lambda g, s: g.set_state(torch.frombuffer(bytearray(s), dtype=torch.uint8))),
    np.random.Generator: (lambda g: g.bit_generator.state,
                          lambda g, s: setattr(g.bit_generator, "state", s)),
    np.random.RandomState: (lambda g: g.get_state(legacy=True), lambda g, s: g.set_state(s)),
}  # fmt: skip


class Chance(Place):
    """Where a generator of random numbers stands."""

    __slots__ = ("state",)
    kinds = tuple(_States)
    in_core = False

    def now(self) -> list[Any]:
        read, _ = next(pair for kind, pair in _States.items() if isinstance(self.what, kind))
        return [read(self.what)]

    def changed(self) -> bool:
        return repr(self.now()) != repr(self.held)

    def put(self) -> None:
        _, write = next(pair for kind, pair in _States.items() if isinstance(self.what, kind))
        write(self.what, self.held[0])


# ---- where a tensor is kept, seen as a dictionary


class Item:
    """One place of a list or tuple in a mapping, seen as a dictionary."""

    def __init__(self, mapping: Any, key: Any, i: int) -> None:
        self.mapping, self.key, self.i = mapping, key, i

    def get(self, key: Any, default: Any = None) -> Any:
        """The item, or the default where there is none."""
        items = () if self.mapping is None else self.mapping.get(self.key, ())
        return items[self.i] if isinstance(items, list | tuple) and self.i < len(items) else default


class Closure:
    """A closure cell seen as a dictionary with one entry."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def get(self, key: str, default: Any = None) -> Any:
        """The variable's value."""
        try:
            return self.cell.cell_contents
        except ValueError:
            return default


class Gradient:
    """A tensor's gradient seen as an entry of a dictionary."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def get(self, key: str, default: Any = None) -> Any:
        """The gradient, or the default where there is none."""
        return default if self.tensor.grad is None else self.tensor.grad
