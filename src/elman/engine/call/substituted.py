"""A step on other tensors than those that it finds where it looks, and nothing of the user's is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from elman.engine.errors import EngineError

__all__ = ["Substituted", "as_then"]


class Substituted(TorchFunctionMode):
    """Whoever calls torch with one of some tensors gets another in its place. Seen by this thread alone."""

    def __init__(self, tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
        super().__init__()
        self.table = {id(t): o for t, o in zip(tensors, others, strict=True) if o is not t}

    def __torch_function__(
        self, func: Any, kinds: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*self._of(args), **self._of(kwargs or {}))

    def _of(self, tree: Any) -> Any:
        if isinstance(tree, Tensor):
            return self.table.get(id(tree), tree)
        if type(tree) in (list, tuple):
            return type(tree)(map(self._of, tree))
        return {k: self._of(v) for k, v in tree.items()} if type(tree) is dict else tree


def as_then(
    held: Callable[[], list[Tensor] | None], then: Sequence[Tensor], step: Callable[..., Any], *arguments: Any
) -> Any:
    """The step as it was at an earlier call, which read the tensors `then`. held: those that it reads now, None where
    something else that it depends on has changed: EngineError."""
    # A step's own record is no change: it is looked at as it was before the call, and stays as the call has left it.
    records: Any = step.args[0] if isinstance(step, partial) and step.args else None
    records = records if hasattr(records, "as_traced") else None
    now = held() if records is None else records.as_traced(held)
    if now is None or len(now) != len(then):
        raise EngineError(
            "gradients that have gradients themselves are computed by the step, run once more, and what the step "
            "depends on has changed since the call: train or eval, an option, or a parameter's requires_grad; take "
            "them before that, or use backend='loop' for this call"
        )
    own = (
        (lambda: step(*arguments))
        if records is None
        else (lambda: records.as_traced(lambda: step(*arguments)))
    )
    if all(a is b for a, b in zip(now, then, strict=True)):
        return own()
    with Substituted(now, then):
        return own()
