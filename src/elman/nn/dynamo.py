"""torch.compile and layers that are torch.nn's by class.

The compiler (`torch._dynamo`) leaves every instance of torch.nn.RNN, LSTM and GRU out of its graphs, unless its setting
`allow_rnn` is on: it cannot trace what they run. A layer of this package is one operator to it. The setting is put on
for as long as the compiler looks at such a layer, and for no other. Without this a compiled model would be right, but
in more than one graph.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

__all__ = ["let_into_graphs"]

_BUILDER = "torch._dynamo.variables.builder"


def let_into_graphs(kind: type[Any]) -> None:
    """Have the compiler take instances of `kind` into its graphs; it is not loaded for that."""
    builder = sys.modules.get(_BUILDER)
    if builder is not None:
        _open(builder, kind)
    else:
        sys.meta_path.insert(0, _WhenLoaded(kind))


def _open(builder: ModuleType, kind: type[Any]) -> None:
    place = getattr(builder, "VariableBuilder", None)
    look = getattr(place, "wrap_module", None)
    if look is None:  # another release of torch: more graphs, the same numbers
        return
    config = sys.modules["torch._dynamo"].config

    def wrap_module(self: Any, value: Any) -> Any:
        if not isinstance(value, kind):
            return look(self, value)
        with config.patch(allow_rnn=True):
            return look(self, value)

    place.wrap_module = wrap_module  # type: ignore[union-attr]


class _WhenLoaded(importlib.abc.MetaPathFinder):
    """Waits for the compiler's module, once."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, self._kind)
        return spec


class _Then(importlib.abc.Loader):
    """Loads as `loader` does, then opens the compiler."""

    def __init__(self, loader: importlib.abc.Loader, kind: type[Any]) -> None:
        self._loader, self._kind = loader, kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _open(module, self._kind)
