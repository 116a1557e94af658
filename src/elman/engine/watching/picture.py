"""A walk over Python values, by the names that a step reads: all that it can see there, to the value, at any depth.

A picture has *places*, each compared by identity (quick, in the core), and *tokens*, the same values written down in
order, so that what was replaced by its equal is known to be equal.
"""

from __future__ import annotations

import array
import contextvars
import functools
import gc
import sys
import types
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from torch import Tensor, nn

from elman.engine.errors import NotSupported
from elman.engine.origins import is_torch
from elman.engine.watching.kinds import (
    BY_VALUE,
    SAME_FOREVER,
    Same,
    are_constants,
    code_of,
    is_constant,
    is_made_in_python,
    is_open,
    own_dict,
    written,
)
from elman.engine.watching.names import Read
from elman.engine.watching.places import (
    NOTHING,
    Answer,
    Bytes,
    Cell,
    Chance,
    Class,
    Closure,
    Entries,
    Entry,
    Function,
    Gradient,
    Item,
    Items,
    Member,
    Objects,
    Place,
    Several,
    Variable,
    lookup,
)

__all__ = ["INTERNAL", "Picture"]

INTERNAL = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_HOOKS = {
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_is_full_backward_hook",
}
_OWN = frozenset(vars(nn.Module()))
_MOST = 500_000
_MOST_BYTES = 1 << 24
_FEW = 64
_CLASS_OF: Any = vars(object)["__class__"]


class Picture:
    """What can be seen from some roots. names: attributes that are looked at; whole: objects that are looked at
    altogether (their ids); codes: the functions that were run.

    before: the picture is taken while the step runs, to see what the step changes: places hold all there is.
    """

    def __init__(
        self,
        names: Iterable[str],
        whole: Iterable[int] = (),
        codes: Iterable[types.CodeType] = (),
        *,
        before: bool = False,
        called: AbstractSet[int] | None = None,
    ) -> None:
        self.names = sorted(names)
        self.called = called  # the modules that are called as such, by their ids; None: any may be
        self.whole, self.codes, self.before = set(whole), set(codes), before
        self.places: dict[tuple[Any, ...], Place] = {}
        self.tokens: list[Any] = []
        self.tensors: list[
            tuple[Tensor, Any, Any, str]
        ] = []  # each where it is found: a mapping, the key in it, a name
        self.unwatched: list[tuple[str, str]] = []  # (name, why) of what cannot be watched
        self.lenient = False  # what cannot be watched in here is no matter
        self.rooted: set[tuple[Any, ...]] = set()  # places that are seen from what was there before the step
        self.root = True  # whether what is looked at was
        self._known: set[int] = set()
        self._classes: set[int] = set()
        self.registered: set[int] = set()  # the dictionaries of parameters and buffers of modules
        self.functions: set[types.CodeType] = set()
        self.seen: dict[int, int] = {}
        self._todo: list[tuple[Any, str, Any, Any]] = []
        self._alive: list[Any] = []
        self._count = self._size = 0

    # ---- roots

    def look(self, value: Any, name: str, mapping: Any = None, key: Any = None) -> None:
        """At a value and all that can be seen from it. mapping, key: where it is kept, for tensors."""
        self._todo.append((value, name, mapping, key))
        while self._todo:
            self._one(*self._todo.pop())

    def look_at_given(self, value: Any, name: str) -> None:
        """At what a function was given, or has returned: it may have been made a moment ago."""
        self.root = id(value) in self._known
        self.look(value, name)
        self.root = True

    def forget(self, young: set[int]) -> None:
        """The places in objects that were made by the step itself."""
        for key, place in list(self.places.items()):
            if key not in self.rooted and (id(place.what) in young or not gc.is_tracked(place.what)):
                del self.places[key]

    def is_known(self, value: Any) -> bool:
        """Whether it was there before the step."""
        return id(value) in self._known

    def read(self, read: Read, namespace: dict[str, Any]) -> None:
        """At what a piece of code reads of its globals and imports."""
        for chain in sorted(read.chains):
            self._follow(namespace, chain)
        for name in sorted(read.imports):
            if not self.before:
                self._at(Entry, sys.modules, name, key=name)
            self.look(sys.modules.get(name), name)

    def _follow(self, namespace: dict[str, Any], chain: tuple[str, ...]) -> None:
        """A global, and what is taken at once from it where it is a module."""
        mapping, key, name = namespace, chain[0], chain[0]
        for attribute in (*chain[1:], None):
            self._at(Entry, mapping, name, key=key)
            value = mapping.get(key, NOTHING)
            if value is NOTHING and self.lenient:
                del self.places[Entry, id(mapping), key]
            if (
                attribute is None
                or not isinstance(value, types.ModuleType)
                or attribute not in value.__dict__
            ):
                break
            mapping, key, name = value.__dict__, attribute, f"{name}.{attribute}"
        if value is NOTHING:
            self.tokens.append("nothing")
        else:
            self.look(value, name, mapping, key)

    # ---- one value

    def _at(self, kind: type[Place], what: Any, name: str, **more: Any) -> Place | None:
        """A place, once."""
        key = (
            kind,
            id(what),
            *(tuple(v) if isinstance(v, list) else v for v in more.values() if v is not None),
        )
        if key not in self.places:
            self.places[key] = kind(what, name, **more)
        if self.root:
            self.rooted.add(key)
        return self.places[key]

    def _one(self, value: Any, name: str, mapping: Any, key: Any) -> None:
        kind = type(value)
        if is_constant(value):
            self.tokens.append(written(value))
            return
        if issubclass(kind, Tensor):
            self.tensors.append((value, mapping, key, name))
        number = self.seen.get(id(value))
        if number is not None:
            self.tokens.append(number)
            return
        self.seen[id(value)] = len(self.seen)
        self._alive.append(value)
        if self.root:
            self._known.add(id(value))
        self._count += 1
        if self._count > _MOST:
            self._refuse(name, "more objects than can be watched")
            return
        for kinds, view in _VIEWS:
            if issubclass(kind, kinds):
                view(self, value, name, (mapping, key))
                return
        self._object(value, name)

    def _refuse(self, name: str, why: str) -> None:
        if not self.lenient:
            self.unwatched.append((name, why))

    def _next(self, parts: Iterable[tuple[Any, str, Any, Any]]) -> None:
        self._todo.extend(parts)

    def _tensor(self, value: Tensor, name: str, at: Any) -> None:
        self.tokens.append(("tensor", tuple(value.shape), value.dtype, value.device, value.requires_grad))
        if "grad" in self.names and (value.is_leaf or value.retains_grad):
            self._at(_Gradient, value, f"{name}.grad")
            grad = value.grad
            self.tokens.append(grad is None)
            if grad is not None:
                self.tensors.append((grad, Gradient(value), "grad", f"{name}.grad"))
        hooks = getattr(value, "_backward_hooks", None)
        if hooks:
            self._next([(hooks, f"the hooks of {name}", None, None)])
        self._namespace(value.__dict__, name)

    def _dict(self, value: dict[Any, Any], name: str, at: Any) -> None:
        self.tokens.append((type(value), len(value)))
        self._at(Entries, value, name, loose=None if self.before else frozenset())
        if isinstance(value, OrderedDict) and len(value) > 1:
            self._at(Several, value, name)
        items = list(dict.items(value))
        self._contents([k for k, _ in items], name)
        if not self._flat([v for _, v in items]):
            self._next([(v, f"{name}[{k!r}]" if is_constant(k) else name, value, k) for k, v in items])
        if is_made_in_python(type(value)):
            self._attributes(value, name)

    def _contents(self, items: list[Any], name: str) -> None:
        """Items whose places, within their container, are of no interest."""
        if not self._flat(items):
            self._next([(v, f"{name}[{i}]", None, None) for i, v in enumerate(items)])

    def _flat(self, items: list[Any]) -> bool:
        """Plain values alone, written down in one go."""
        if not are_constants(items):
            return False
        self._count += len(items) // 8
        if not self.before:
            self.tokens.append((list(map(type, items)), repr(items)))
        return True

    def _list(self, value: list[Any], name: str, at: Any) -> None:
        self.tokens.append((type(value), len(value)))
        items = list.__getitem__(value, slice(None))
        self._at(Items, value, name)
        self._items(items, name, at)
        if type(value) is not list:
            self._attributes(value, name)

    def _items(self, items: list[Any], name: str, at: Any) -> None:
        if not self._flat(items):
            self._next([(v, f"{name}[{i}]", Item(at[0], at[1], i), at[1]) for i, v in enumerate(items)])

    def _tuple(self, value: tuple[Any, ...], name: str, at: Any) -> None:
        self.tokens.append((type(value), len(value)))
        self._items(list(tuple.__iter__(value)), name, at)
        if type(value) is not tuple:
            self._attributes(value, name)

    def _several(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append((type(value), len(value)))
        items = list(next(k for k in (deque, set, frozenset) if isinstance(value, k)).__iter__(value))
        if not isinstance(value, frozenset):
            self._at(Several, value, name)
        if not isinstance(value, deque) and all(map(is_constant, items)):
            items = sorted(items, key=lambda v: (type(v).__name__, repr(v)))
        self._contents(items, name)

    def _bytes(self, value: Any, name: str, at: Any) -> None:
        try:
            view = memoryview(value)
        except (ValueError, BufferError):  # dates of numpy have no buffer
            self._refuse(name, f"a {type(value).__name__} that cannot be compared")
            return
        self._bytes_of(view, value, name)

    def _bytes_of(self, view: memoryview, value: Any, name: str) -> None:
        self._size += view.nbytes
        if self._size > _MOST_BYTES:
            self._refuse(
                name,
                f"{self._size >> 20} MiB of numbers in plain arrays, too many to be compared at each call",
            )
            return
        self._at(Bytes, value, name)
        self.tokens.append((type(value), view.format, view.shape, view.tobytes()))

    def _array(self, value: np.ndarray[Any, Any], name: str, at: Any) -> None:
        if not value.dtype.hasobject:
            self._bytes(value, name, at)
            return
        self._at(Objects, value, name)
        self.tokens.append((type(value), value.shape))
        self._contents(list(np.ndarray.flatten(value)), name)

    def _module_of_python(self, value: types.ModuleType, name: str, at: Any) -> None:
        self.tokens.append(Same(value))
        for n in self.names:
            if n in value.__dict__ and not (self.before and value.__name__.startswith("torch")):
                self._at(Entry, value.__dict__, f"{name}.{n}", key=n)
                self._next([(value.__dict__[n], f"{name}.{n}", value.__dict__, n)])

    def _type(self, value: type, name: str, at: Any = None) -> None:
        if is_made_in_python(value):
            self._class(value, name)
        self.tokens.append(Same(value))

    def _class(self, kind: type, name: str) -> None:
        """Attributes of a class that are read by name, and methods that were run without being named."""
        if (id(kind) in self._classes and not self.before) or not is_made_in_python(kind):
            return
        self._classes.add(id(kind))
        names = {*self.names, "forward"} if issubclass(kind, nn.Module) else set(self.names)
        for owner in kind.__mro__ if is_made_in_python(kind) else ():
            if not owner.__module__.startswith("torch."):
                names |= {n for n, v in vars(owner).items() if code_of(v) in self.codes}
        place = self._at(Class, kind, name, names=sorted(names))
        assert isinstance(place, Class)
        for n, value, owner in zip(place.names, place.held, place.owners, strict=True):
            if value is NOTHING or (owner in _QUIET and isinstance(value, types.FunctionType)):
                self.tokens.append(value is NOTHING)
            else:
                self._next([(value, f"{name}.{n}", None, n)])
        if is_made_in_python(type(kind)):
            self._class(type(kind), type(kind).__name__)

    def _function(self, value: types.FunctionType, name: str, at: Any) -> None:
        self.tokens.append(Same(value))
        if not self.before and value.__code__ not in self.codes:
            return
        self.functions.add(value.__code__)
        if is_torch(value.__code__):
            return
        self._at(Function, value, name)
        self.tokens.append(value.__code__)
        self._next([(value.__defaults__, f"the defaults of {value.__name__}", None, None)])
        self._next([(value.__kwdefaults__, f"the defaults of {value.__name__}", None, None)])
        if value.__dict__:
            self._namespace(value.__dict__, name)
        for n, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            place = self._at(Cell, cell, n)
            assert place is not None
            if place.held[0] is not NOTHING and n != "__class__":
                self._next([(place.held[0], n, Closure(cell), n)])

    def _parts(self, value: Any, name: str, at: Any) -> None:
        """Callables that are made of others."""
        self.tokens.append(type(value))
        parts = [
            getattr(value, n, None)
            for n in ("__func__", "__self__", "fget", "fset")
            if hasattr(type(value), n)
        ]
        self._next([(p, name, None, None) for p in parts])

    def _builtin(self, value: Any, name: str, at: Any) -> None:
        owner = value.__self__
        if owner is None or isinstance(owner, types.ModuleType | type):
            self.tokens.append(Same(value))
        else:
            self.tokens.append((type(value), value.__name__))
            self._next([(owner, name, None, None)])

    def _partial(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append(type(value))
        for n in ("func", "args", "keywords"):
            self._at(Member, value, f"{name}.{n}", slot=lookup(functools.partial, n)[0])
            self._next([(getattr(value, n), f"{name}.{n}", None, None)])

    def _same(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append(Same(value))

    def _by_value(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append((type(value), value.tobytes() if isinstance(value, np.generic) else repr(value)))

    def _generator(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append(Same(value))
        if self.before:
            self._at(Chance, value, name)

    def _variable(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append(Same(value))
        place = self._at(Variable, value, name)
        assert place is not None
        if place.held[0] is not NOTHING:
            self._next([(place.held[0], f"{name}.get()", None, None)])

    def _weak(self, value: Any, name: str, at: Any) -> None:
        self.tokens.append(type(value))
        self._at(Answer, value, name)
        self._next([(value(), name, None, None)])

    def _behind(self, value: Any, name: str, at: Any) -> None:
        """What keeps its contents where only the collector sees them: a cache of results, a view of a dictionary."""
        self.tokens.append(type(value))
        own = getattr(value, "__dict__", None)
        self._next(
            [
                (v, name, None, None)
                for v in gc.get_referents(value)
                if v is not own and not isinstance(v, type)
            ]
        )

    # ---- objects with attributes

    def _object(self, value: Any, name: str) -> None:
        kind = type(value)
        if getattr(kind, "watched_by_identity", False):
            self.tokens.append(Same(value))
            return
        self.tokens.append(kind)
        if isinstance(value, int | float | complex | str | bytes):
            base = next(k for k in (int, float, complex, str, bytes) if isinstance(value, k))
            self.tokens.append(base.__repr__(value))
        elif not is_open(kind):  # type: ignore[arg-type]
            self._refuse(name, f"a {kind.__module__}.{kind.__qualname__}, whose contents cannot be seen")
            if self.before and self.root and hasattr(kind, "__next__"):
                raise NotSupported(
                    f"the step reads {name!r}, an iterator, which cannot be put back", op=name,
                    hint="hand in what it gives with x",
                )  # fmt: skip
        self._attributes(value, name)

    def _attributes(self, value: Any, name: str) -> None:
        own, kind = own_dict(value), type(value)
        all_of_it = id(value) in self.whole or isinstance(value, types.SimpleNamespace)
        if own is not None:
            self._namespace(own, name, all_of_it)
        names = {n for k in kind.__mro__ for n in vars(k)} if all_of_it else self.names
        for n in sorted(names):
            slot = lookup(kind, n)[0]
            if isinstance(slot, types.MemberDescriptorType) and is_made_in_python(kind):
                place = self._at(Member, value, f"{name}.{n}", slot=slot)
                assert place is not None
                if place.held[0] is not NOTHING:
                    self._next([(place.held[0], f"{name}.{n}", None, None)])
        if is_made_in_python(kind):
            self._at(Member, value, f"{name}.__class__", slot=_CLASS_OF)
        self._next([(kind, kind.__name__, None, None)])

    def _namespace(self, own: dict[str, Any], name: str, all_of_it: bool = False) -> None:
        """The dictionary of an object's attributes."""
        names = list(own) if all_of_it else [n for n in self.names if n in own]
        if self.before:
            self._at(Entries, own, name)
        elif len(own) <= _FEW:
            self._at(Entries, own, name, loose=frozenset(own) - frozenset(names))
        else:
            for n in self.names:
                self._at(Entry, own, f"{name}.{n}", key=n)
        self.tokens.append(names)
        self._next([(own[n], f"{name}.{n}" if name else n, own, n) for n in names])

    def _layer(self, module: nn.Module, name: str, at: Any) -> None:
        """A module: its tensors and modules, its mode, its hooks where they are called, and the attributes that are
        read by name."""
        self.tokens.append(type(module))
        own = module.__dict__
        ready = any(k.__module__.startswith("torch.") and k not in _QUIET for k in type(module).__mro__)
        ready = ready or id(module) in self.whole
        own_names = [n for n in own if n not in _OWN and (ready or n in self.names)]
        called = self.called is None or id(module) in self.called
        hooks = [n for n in sorted(_HOOKS) if called or n in self.names]
        names = ["training", *hooks, *own_names]
        loose = None if self.before else frozenset(own) - frozenset(names) - INTERNAL
        self._at(Entries, own, name, loose=loose)
        self.tokens.append(names)
        self._next([(own.get(n), f"{name}.{n}" if name else n, own, n) for n in names])
        for registered in (module._parameters, module._buffers, module._modules):
            self._at(Entries, registered, name, loose=loose)
            self.registered.add(id(registered))
            self.tokens.append(list(registered))
            self._next([(v, f"{name}.{n}" if name else n, registered, n) for n, v in registered.items()])
        self._at(Member, module, f"{name}.__class__" if name else "__class__", slot=_CLASS_OF)
        self._class(type(module), type(module).__name__)


class _Gradient(Place):
    """Whether a tensor has a gradient."""

    __slots__ = ()
    in_core = False

    def now(self) -> list[Any]:
        return [self.what.grad is None]


_QUIET = (nn.Module, object)
_View = Callable[[Picture, Any, str, Any], None]
_VIEWS: list[tuple[Any, _View]] = [
    (Tensor, Picture._tensor),
    (nn.Module, Picture._layer),
    (dict, Picture._dict),
    (list, Picture._list),
    (tuple, Picture._tuple),
    (type, Picture._type),
    (types.FunctionType, Picture._function),
    (types.ModuleType, Picture._module_of_python),
    ((set, frozenset, deque), Picture._several),
    (np.ndarray, Picture._array),
    ((array.array, bytearray, memoryview), Picture._bytes),
    ((types.MethodType, staticmethod, classmethod, property), Picture._parts),
    (types.BuiltinFunctionType, Picture._builtin),
    (functools.partial, Picture._partial),
    (Chance.kinds, Picture._generator),
    (contextvars.ContextVar, Picture._variable),
    (weakref.ref, Picture._weak),
    ((functools._lru_cache_wrapper, types.MappingProxyType), Picture._behind),
    (BY_VALUE, Picture._by_value),
    (SAME_FOREVER, Picture._same),
]
