"""What a traced step depends on beside its inputs, and whether it is still so.

A trace is good as long as all that the step could read is what it was, to the value, at any depth, and every tensor it
reads can be found again, live, where it was found. Which functions and objects those are is not guessed: the step is
run under a profile function that sees each Python frame it enters (`reached.py`), and what these frames name is looked
at (`picture.py`). Nothing is ever keyed on a tensor's version: `p.data.mul_` does not move it.
"""

from __future__ import annotations

import functools
import gc
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from elman.engine.backends import core_watch
from elman.engine.errors import NotSupported
from elman.engine.origins import is_users_own
from elman.engine.watching.kinds import is_constant, written
from elman.engine.watching.names import read_by
from elman.engine.watching.picture import INTERNAL, Picture
from elman.engine.watching.places import NOTHING, Answer, Closure, Entries, Entry, Gradient, Place
from elman.engine.watching.reached import GLOBAL_HOOKS, Reached, names_of

__all__ = ["INTERNAL", "Guard", "Reached", "Source", "is_users_own", "make_guard", "modules_of", "reach"]


@dataclass(slots=True)
class Source:
    """A tensor that the step reads: where it is found, and of what kind it has to be.

    places: (mapping, key) of each; live: how those are looked up that are at each call; fixed: the tensor itself, where
    some other place is known to hold it still.
    """

    places: list[tuple[Any, Any]]
    live: list[tuple[Callable[[Any], Any], Any]]
    fixed: Tensor | None
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    requires_grad: bool
    visits: list[int]
    external: bool
    kind: type[Tensor] = Tensor

    def sought(self) -> tuple[Any, ...]:
        """How it is looked up, what it has to be, and how it is looked up under its other names."""
        # In the place of a plain tensor one of a class with operations of its own (a DTensor) is another thing.
        kinds = frozenset({Tensor, nn.Parameter, self.kind})
        (get, key), *others = self.live or [(lambda _: self.fixed, None)]
        if self.live and self.fixed is not None:
            others.append((lambda _: self.fixed, None))
        return get, key, kinds, self.shape, self.dtype, self.device, self.requires_grad, others


@dataclass(slots=True)
class Guard:
    """Places with what they held, and where the tensors of the step are. take: looks at all of it anew."""

    take: Callable[[], Picture]
    tokens: list[Any] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    sources: list[Source] = field(
        default_factory=list
    )  # of the tensors that the step computes with, then of others
    alone: bool = False  # for a step on the plain loop: nothing is looked at anew
    identity: bool = (
        False  # the step asks whether two things are one: tensors that were apart must be so still
    )
    core: Any = None
    _in_core: list[Place] = field(default_factory=list)
    _rest: list[Place] = field(default_factory=list)
    _sought: list[tuple[Any, ...]] = field(default_factory=list)
    _external: int = 0

    def adopt(self, picture: Picture) -> None:
        """Watch what a picture shows."""
        self.tokens = picture.tokens
        self._watch(list(picture.places.values()))
        for source in self.sources:
            _find(source, picture)
        self._sought = [source.sought() for source in self.sources]
        self._external = sum(source.external for source in self.sources)

    def _watch(self, places: list[Place]) -> None:
        self.places = places
        self.core = core_watch(NOTHING)
        self._in_core = [p for p in places if p.in_core and self.core is not None]
        self._rest = [p for p in places if not p.in_core or self.core is None]
        for place in self._in_core:
            place.add_to(self.core)

    def _changed(self) -> Place | None:
        if self.core is not None and (n := self.core.first_change()) >= 0:
            return self._in_core[n]
        for place in self._rest:
            if place.changed():
                return place
        return None

    def changed(self) -> str:
        """The name of something that is not as it was; empty where all is."""
        place = self._changed()
        return "" if place is None else place.label()

    def holds(self) -> bool:
        """Whether everything is as it was when the step was traced."""
        return self.held() is not None

    def held(self) -> list[Tensor] | None:
        """The tensors that the step reads, if everything is as it was when the step was traced."""
        if (place := self._changed()) is not None and not self._is_equal(place):
            return None
        tensors: list[Tensor] = []
        for get, key, kinds, shape, dtype, device, requires_grad, others in self._sought:
            now = get(key)
            if type(now) not in kinds or now.shape != shape or now.dtype is not dtype:
                return None
            if now.device != device or now.requires_grad is not requires_grad:
                return None
            if others and any(other(name) is not now for other, name in others):
                return None
            tensors.append(now)
        if self.identity and len(set(map(id, tensors))) < len(tensors):
            return None
        return tensors[: self._external]

    def _is_equal(self, place: Place) -> bool:
        """Whether something else than before is there, and is equal to it."""
        if self.alone:
            return False
        now = place.now()
        if len(now) != len(place.held):
            return False
        pairs = zip(now, place.held, strict=True)
        if any(is_constant(a) and is_constant(b) and written(a) != written(b) for a, b in pairs):
            return False
        picture = self.take()
        if picture.unwatched or picture.tokens != self.tokens:
            return False
        self.adopt(picture)
        return True

    def tensors(self) -> list[Tensor]:
        """The tensors that the step reads, as they are now."""
        return [get(key) for get, key, *_ in self._sought[: self._external]]

    def settle(self) -> None:
        """Of a step on the plain loop: what it has changed itself is no reason to trace it again."""
        kept = []
        for place in self.places:
            if not place.changed():
                kept.append(place)
            elif isinstance(place, Entries) and place.now()[::2] == place.held[::2]:
                now = place.now()
                keys = zip(now[::2], now[1::2], place.held[1::2], strict=True)
                place.loose = frozenset({*(place.loose or ()), *(k for k, a, b in keys if a is not b)})
                place.held = now
                kept.append(place)
        self._watch(kept)

    def check_undisturbed(self) -> None:
        """After a run of the step that is the engine's own: raise NotSupported where it has changed what is watched,
        which is taken back."""
        changed = [place for place in self.places if place.changed()]
        names = [place.label() for place in changed]
        for place in changed:
            place.put()
        if names:
            raise NotSupported(
                f"the step changes {names[0]!r}, which is there before it", op=names[0],
                hint="hand it on as part of the state or of y instead",
            )  # fmt: skip

    def ways(self) -> list[list[tuple[Any, Any]]]:
        """Where each tensor is found that the step reads: (mapping, key), none for one that nothing names."""
        return [[(m, k) for m, k in s.places if m is not None] for s in self.sources if s.external]

    def entries(self) -> Iterator[tuple[dict[Any, Any], Any]]:
        """The entries of dictionaries that are watched."""
        for place in self.places:
            if isinstance(place, Entries):
                yield from (
                    (place.what, k) for k in place.what if place.loose is None or k not in place.loose
                )
            elif isinstance(place, Entry) and place.held[0] is not NOTHING:
                yield place.what, place.key


def _find(source: Source, picture: Picture) -> None:
    """Where a tensor is, by the numbers of its visits."""
    visits = [picture.tensors[n] for n in source.visits]
    source.places = [(mapping, key) for _, mapping, key, _ in visits]
    live = {(id(m), k): (_getter(m), k) for _, m, k, _ in visits if isinstance(m, dict | Gradient)}
    source.live = list(live.values())
    source.fixed = visits[0][0] if any(not isinstance(m, dict | Gradient) for _, m, _, _ in visits) else None


def _getter(mapping: Any) -> Callable[[Any], Any]:
    """How an entry is looked up without any code of the user's."""
    if isinstance(mapping, dict) and type(mapping) is not dict:
        return functools.partial(dict.get, mapping)
    return mapping.get


def reach(step: Callable[..., Any], owner: nn.Module | None) -> Reached:
    """What watches the first runs of a step; what it carries was there before."""
    reached = Reached()
    for thing in (owner, step, *_carried(step)):
        reached.before.look(thing, "" if thing is owner else getattr(thing, "__name__", type(thing).__name__))
    return reached


def make_guard(
    step: Callable[..., Any], owner: nn.Module | None, tensors: list[Tensor], reached: Reached, *, alone: bool = False
) -> Guard:  # fmt: skip
    """Watch all that `step` read or could have read; find each of `tensors` by name.

    alone: for a step on the plain loop, where what cannot be watched is no matter. Else NotSupported names it.
    """
    take = functools.partial(_take, step, owner, reached, alone)
    picture = take()
    if picture.unwatched and not alone:
        name, why = picture.unwatched[0]
        raise NotSupported(
            f"the step reads {name!r}, which cannot be watched: {why}", op=name,
            hint="keep numbers, texts, tensors and containers of these in it, or hand in what it gives with x",
        )  # fmt: skip
    guard = Guard(take, alone=alone)
    guard.sources = [] if alone else list(_sources(picture, tensors))
    guard.identity = any(read_by(code).identity for code in reached.codes if not reached.is_of_others(code))
    guard.adopt(picture)
    return guard


def _sources(picture: Picture, tensors: list[Tensor]) -> Iterator[Source]:
    visits: dict[int, list[int]] = {}
    for n, (t, *_) in enumerate(picture.tensors):
        visits.setdefault(id(t), []).append(n)
    for t in tensors:
        if id(t) not in visits:
            raise NotSupported(
                f"the step reads a tensor {tuple(t.shape)} that is kept where it cannot be watched", op="tensor",
                hint="register it as a buffer, or keep it in an attribute, a list or a dict",
            )  # fmt: skip
        yield Source(
            [], [], None, t.shape, t.dtype, t.device, t.requires_grad, visits.pop(id(t)), True, type(t)
        )
    names = set(picture.names)
    for found in visits.values():
        t, mapping, key, _ = picture.tensors[found[0]]
        if id(mapping) not in picture.registered or key in names:
            yield Source([], [], None, t.shape, t.dtype, t.device, t.requires_grad, found, False, type(t))


def _take(step: Any, owner: nn.Module | None, reached: Reached, alone: bool) -> Picture:
    """A picture of all that the step can see, from the same roots in the same order."""
    names: set[str] = set()
    reads = [(code, read_by(code), space) for code, spaces in reached.codes.items() for space in spaces]
    for _, read, namespace in reads:
        names |= names_of(read, namespace)
    hooks = reached.hooks()
    picture = Picture(names, reached.whole, reached.codes, called=None if alone else reached.called)
    picture.lenient = alone
    for path, module in modules_of(step, owner, reached):
        picture.look(module, path)
    for thing in (step, *_carried(step)):
        picture.look(thing, getattr(thing, "__name__", type(thing).__name__))
    for thing in reached.objects.values():
        picture.look(thing, type(thing).__name__)
    for kind in sorted(reached.kinds, key=lambda k: (k.__module__, k.__qualname__)):
        picture.look(kind, kind.__name__)
    for name in GLOBAL_HOOKS:
        picture.look(getattr(torch_module, name), "a hook on all modules")
    for hook in hooks:
        picture.look(hook, "a hook")
    for code, read, namespace in reads:
        picture.lenient = alone or reached.is_of_others(code)
        picture.read(read, namespace)
    picture.lenient = alone
    for function in _functions(reached, picture):
        picture.look(function, function.__name__)
    for name, ask in reached.settings():
        place = Answer(ask, name)
        picture.places["answer", name] = place
        picture.tokens.append(place.held[0])
    return picture


def _functions(reached: Reached, picture: Picture) -> list[types.FunctionType]:
    """Functions that were run and have not been seen yet."""
    made = {c for code in reached.codes for c in code.co_consts if isinstance(c, types.CodeType)}
    wanted = [c for c in reached.codes if c not in picture.functions | made and not reached.is_of_others(c)]
    found = [f for f in gc.get_referrers(*wanted) if isinstance(f, types.FunctionType)] if wanted else []
    order = {id(c): n for n, c in enumerate(wanted)}
    return sorted(found, key=lambda f: order.get(id(f.__code__), len(order)))


def modules_of(
    step: Callable[..., Any], owner: nn.Module | None, reached: Reached | None
) -> list[tuple[str, nn.Module]]:
    """Every module that the step can reach, with its path."""
    roots = [m for m in (owner, *_carried(step)) if isinstance(m, nn.Module)]
    roots += [m for m in (reached.objects.values() if reached else ()) if isinstance(m, nn.Module)]
    seen: dict[int, tuple[str, nn.Module]] = {}
    for root in roots:
        for path, module in root.named_modules():
            seen.setdefault(id(module), (path, module))
    return list(seen.values())


def _carried(step: Any) -> Iterator[Any]:
    """The objects that a callable carries: itself, a method's self, a partial's arguments, a function's closure."""
    yield step
    if isinstance(step, functools.partial):
        yield from _carried(step.func)
        yield from (*step.args, *step.keywords.values())
    elif inspect.ismethod(step):
        yield step.__self__
    elif inspect.isfunction(step):
        for cell in step.__closure__ or ():
            yield Closure(cell).get("")
