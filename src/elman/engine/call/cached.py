"""Calls under `torch.nn.utils.parametrize.cached()`: each parametrized tensor is made once, however many steps read it.

In a loop it is the first step that makes it (spectral norm in training does one power iteration then), and the others
read what is kept. Here it is made before the call, outside the step, which reads it as it reads any tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from elman.engine.call.inputs import Inputs
from elman.engine.errors import EngineError, NotSupported
from elman.engine.structure import ScanResult, unflatten
from elman.engine.watching.guards import modules_of

__all__ = ["Cached", "is_cached"]

Key = tuple[int, str]  # as torch's cache has them: the id of a module and the name of its tensor
Step = Callable[..., Any]


def is_cached(step: Step, owner: nn.Module | None) -> bool:
    """Whether the parametrized tensors that this step reads are to be made once, and there are some."""
    if not parametrize._cache_enabled or (isinstance(step, partial) and step.func is with_made):
        return False
    return any("parametrizations" in m._modules for _, m in modules_of(step, owner, None))


class _Call:
    """What one call has made, also for its gradient's gradient; and which tensor the step was last seen to miss."""

    watched_by_identity = True  # it is no part of what the step computes
    __slots__ = ("made", "missing")

    def __init__(self, made: dict[Key, Tensor]) -> None:
        self.made = made
        self.missing: Key | None = None


class _Cache(dict[Key, Tensor | None]):
    """What stands in for torch's cache while a step runs."""

    def __init__(self, call: _Call) -> None:
        super().__init__(call.made)
        self.call = call

    def get(self, key: Key, default: Any = None) -> Any:
        """The tensor; NotSupported where nobody has made it yet."""
        if key not in self:
            self.call.missing = key
            raise NotSupported(f"the step reads {key[1]!r}, which is not made yet", op=key[1])
        return self[key]


def with_made(call: _Call, made: dict[Key, Tensor], step: Step, *arguments: Any) -> Any:
    """The step, which reads the tensors that this call has made. made: where the guard finds those of each call."""
    before = parametrize._cache, parametrize._cache_enabled
    parametrize._cache, parametrize._cache_enabled = _Cache(call), 1
    try:
        return step(*arguments)
    finally:
        parametrize._cache, parametrize._cache_enabled = before


def _owner(number: int, name: str, modules: dict[int, nn.Module]) -> nn.Module | None:
    """The module whose tensor torch keeps under this key; None where there is none, or more than one may be meant.

    A copy of a parametrized module has the class of the first, and with it the key of the first: the copy's tensor is
    kept under the id of a module that need not be there any more.
    """
    if number in modules:
        return modules[number] if parametrize.is_parametrized(modules[number], name) else None
    found = [m for m in modules.values() if parametrize.is_parametrized(m, name)]
    return found[0] if len(found) == 1 else None


class Cached:
    """Runs such calls by a scan of their own."""

    def __init__(self, scan: Any) -> None:
        self.made: dict[Key, Tensor] = {}
        self.inner = type(scan)(
            self._step(scan, _Call({})), owner=scan.owner, fallback="error", backend=scan.backend
        )

    def _step(self, scan: Any, call: _Call) -> Step:
        return partial(with_made, call, self.made, scan.step)

    def call(self, scan: Any, given: Inputs, every: int | None) -> ScanResult:
        """The call; on the plain loop, which reads torch's own cache, where the fast path does not take the step."""
        modules = {id(m): m for _, m in modules_of(scan.step, scan.owner, None)}
        self.inner.backend = scan.backend
        self._make([*self.made], modules)  # in the order in which the step reads them
        while True:
            call = _Call(dict(self.made))
            self.inner.step = self._step(scan, call)
            try:
                result = self._run(given, every)
            except EngineError as error:
                reason = error.__cause__
                if call.missing is not None and self._make([call.missing], modules):
                    continue
                if not isinstance(reason, NotSupported):
                    raise
                fallen: ScanResult = scan._fall_back(given, reason, every)
                return fallen
            scan.path, scan._explanation = self.inner.path, self.inner.explain()
            return result

    def _make(self, keys: list[Key], modules: dict[int, nn.Module]) -> bool:
        """Have torch make these tensors and keep them; false where one is parametrized no more."""
        fresh = any(key not in self.made for key in keys)
        for number, name in keys:
            module = _owner(number, name, modules)
            if module is None:
                self.made.clear()
                self.inner._forget()
                return False
            self.made[number, name] = getattr(module, name)
        if fresh:
            self.inner._forget()
        return True

    def _run(self, given: Inputs, every: int | None) -> ScanResult:
        result: ScanResult = self.inner(
            unflatten(given.x, given.x_spec), unflatten(given.s, given.s_spec),
            context=None if given.c_spec is None else unflatten(given.c, given.c_spec),
            initial_state=None if given.initial is given.s else unflatten(given.initial, given.s_spec),
            lengths=given.lengths, reset=given.reset, reverse=given.reverse, return_states=given.return_states,
            checkpoint_every=every,
        )  # fmt: skip
        return result
