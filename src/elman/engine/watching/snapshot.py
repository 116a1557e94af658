"""The modules under a step as they are before it is traced, to be put back exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from elman.engine.errors import NotSupported
from elman.engine.watching.guards import INTERNAL, modules_of
from elman.engine.watching.kinds import is_constant
from elman.engine.watching.picture import Picture
from elman.engine.watching.places import NOTHING

__all__ = ["Snapshot"]


class Snapshot:
    """Attributes of the modules under a step, and the random state; says what has changed and puts it back."""

    def __init__(self, step: Callable[..., Any], owner: nn.Module | None) -> None:
        self._modules = modules_of(step, owner, None)
        self._dicts = [
            [dict(d) for d in (m.__dict__, m._parameters, m._buffers, m._modules)] for _, m in self._modules
        ]
        self._contained = [
            {k: _contained(v) for k, v in m.__dict__.items() if k not in INTERNAL} for _, m in self._modules
        ]
        self._contents = [
            {
                k: type(v)(v)
                for k, v in m.__dict__.items()
                if type(v) in (list, dict, set) and k not in INTERNAL
            }
            for _, m in self._modules
        ]
        self._rng = torch.get_rng_state()

    def changed(self) -> str | None:
        """The name of an attribute that the step changed, or None."""
        for (path, module), dicts, inside in zip(self._modules, self._dicts, self._contained, strict=True):
            prefix = f"{path}." if path else ""
            for now, before in zip(_registered(module), dicts[1:], strict=True):
                for key in (*now, *before):
                    if now.get(key) is not before.get(key, NOTHING):
                        return prefix + str(key)
            for key in {**module.__dict__, **dicts[0]}:
                same = module.__dict__.get(key, NOTHING) is dicts[0].get(key, NOTHING)
                if key not in INTERNAL and not (
                    same and _contained(module.__dict__.get(key)) == inside.get(key)
                ):
                    return prefix + key
        return None

    def set_tensors(self) -> list[tuple[dict[str, Any], str]]:
        """The plain attributes that the step has set to tensors; none where it has set any to something else."""
        places = []
        for (_, module), (before, *_) in zip(self._modules, self._dicts, strict=True):
            now = module.__dict__
            for key in {**before, **now}.keys() - INTERNAL:
                old, new = before.get(key), now.get(key)
                if now.get(key, NOTHING) is before.get(key, NOTHING):
                    continue
                if not isinstance(new, Tensor) or not (old is None or isinstance(old, Tensor)):
                    return []
                places.append((now, key))
        return places

    def check(self) -> None:
        """Raise NotSupported where the step has changed an attribute."""
        if (name := self.changed()) is not None:
            raise self._told(name, "")

    def better_reason(self, reason: NotSupported) -> NotSupported:
        """A step that fails because of what it changed itself is told by the attribute."""
        name = self.changed()
        return reason if name is None else self._told(name, f" ({reason.reason})")

    def _told(self, name: str, rest: str) -> NotSupported:
        return NotSupported(
            f"the step changes the attribute {name!r}{rest}", op=name,
            hint="hand it on as part of the state instead, or make it before the first call",
        )  # fmt: skip

    def tensors(self) -> list[Tensor]:
        """Parameters, buffers and tensor attributes of the modules."""
        return [t for dicts in self._dicts for d in dicts[:3] for t in d.values() if isinstance(t, Tensor)]

    def labels(self) -> dict[int, str]:
        """Names of these by their memory."""
        names = {}
        for (path, module), dicts in zip(self._modules, self._dicts, strict=True):
            prefix = f"{path}." if path else ""
            for what, entries in zip(("the attribute", "the parameter", "the buffer"), dicts, strict=False):
                for key, t in entries.items():
                    # what a transform that is over has left in an attribute has no memory
                    if isinstance(t, Tensor) and not torch._C._functorch.is_functorch_wrapped_tensor(t):
                        names[t.untyped_storage()._cdata] = (
                            f"{what} '{prefix}{key}' of {type(module).__name__}"
                        )
        return names

    def restore(self) -> None:
        """Put every attribute and the random state back."""
        torch.set_rng_state(self._rng)
        for (_, module), dicts, contents in zip(self._modules, self._dicts, self._contents, strict=True):
            for now, before in zip([module.__dict__, *_registered(module)], dicts, strict=True):
                if _differs(now, before):
                    now.clear()
                    now.update(before)
            for key, items in contents.items():
                _restore_container(module.__dict__[key], items)


def _contained(value: Any) -> list[Any]:
    """What containers hold, written down; nothing else has contents here."""
    if is_constant(value) or isinstance(value, Tensor | nn.Module):
        return []
    picture = Picture(())
    picture.lenient = True
    picture.look(value, "")
    return picture.tokens


def _registered(module: nn.Module) -> list[dict[str, Any]]:
    return [module._parameters, module._buffers, module._modules]


def _differs(now: dict[str, Any], before: dict[str, Any]) -> bool:
    return now.keys() != before.keys() or any(now[k] is not before[k] for k in now)


def _restore_container(value: Any, items: Any) -> None:
    if isinstance(value, list):
        value[:] = items
    elif isinstance(value, set) or _differs(value, items):
        value.clear()
        value.update(items)
