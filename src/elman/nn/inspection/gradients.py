"""How far the gradient reaches: the norm of d loss_T / d s_t, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from elman.engine import Scan, ScanResult
from elman.nn.inspection.watching import Named, named_tracks, one_thread, own_copy, replaced
from elman.nn.stack import Stack

__all__ = ["HALF_LIFE", "Decay", "decays"]

# Steps: a gradient that halves, or doubles, sooner than this is called vanishing, or exploding.
HALF_LIFE = 20


class Decay(NamedTuple):
    """The gradient of the last step's loss with respect to the states before it, in one direction of one layer.

    norms `(T − 1,)`: at place k − 1 the mean over rows of |d loss_T / d s_{T−k}|, the state as step T − k handed it on;
    h and c together for an LSTM. The state before the first step is none that was reached, and left out.
    probed: the loss had no gradient at the last output, so that of a direction drawn at random stands for it, and only
    the course says something, not the size.
    """

    track: str
    layer: int
    direction: int
    norms: Tensor
    probed: bool = False

    @property
    def rate(self) -> float:
        """The factor per step: exp of the slope of a straight line through log norm over k, by least squares.

        NaN where fewer than two norms are above zero.
        """
        k = torch.arange(1, len(self.norms) + 1, dtype=torch.float64)
        kept = self.norms.isfinite() & (self.norms > 0)
        if int(kept.sum()) < 2:
            return math.nan
        x, y = k[kept], self.norms[kept].double().log()
        x = x - x.mean()
        return math.exp(float((x * (y - y.mean())).sum() / (x * x).sum()))

    @property
    def half_life(self) -> float:
        """Steps in which the gradient halves; negative: in which it doubles; infinite where it stays."""
        slope = math.log2(self.rate) if self.rate > 0 else math.nan
        return math.inf if abs(slope) < 1e-12 else -1 / slope

    @property
    def left(self) -> float:
        """The norm at the longest distance, as a share of that one step back."""
        return float(self.norms[-1] / self.norms[0]) if len(self.norms) and self.norms[0] > 0 else math.nan

    @property
    def word(self) -> str:
        """ "vanishing": halves in fewer than 20 steps; "exploding": doubles in fewer than 20; "neither"; "none"."""
        if math.isnan(self.rate):
            return "none"
        slope = math.log2(self.rate)
        return "vanishing" if slope < -1 / HALF_LIFE else "exploding" if slope > 1 / HALF_LIFE else "neither"

    def __str__(self) -> str:
        """The word with its reasons."""
        if self.word == "none":
            return f"{self.track}: no gradient reaches it"
        half = self.half_life
        time = (
            "stays as it is"
            if math.isinf(half) or abs(half) > 1e4
            else f"{'halves' if half > 0 else 'doubles'} in {abs(half):.3g} steps"
        )
        return (
            f"{self.track}: {self.word}, times {self.rate:.3f} a step ({time}); after {len(self.norms) - 1} more steps "
            f"{self.left:.1e} of it is left"
        )


def decays(
    network: nn.Module, loss: Callable[[Any], Tensor] | Tensor, *, within: str = "", seed: int = 0
) -> list[Decay]:
    """How the gradient of the last step's loss falls, or grows, on its way back through each layer and direction.

    loss: a function of the network that runs it over sequences of one length T and returns its loss, one number or one
        a row (whatever it says of all steps: it is cut to what the last output brings); or the input x of a layer
        alone, in the place of a loss then a direction in y_T that is drawn by `seed`.
    within: the name of the part whose layers are meant (`recurrent`); empty for all.

    What the network reads of the last layer is cut to the last output, so that the loss is that of step T; a direction
    that reads backwards ends at step 1, and is looked at from there. In double precision, on a copy in evaluation mode.

    Raises ValueError where there is no recurrent layer, and for rows of several lengths.
    """
    own = own_copy(network, torch.float64)
    parts = named_tracks(own, within)
    both = any(direction for _, names in parts for *_, direction in names)
    top = [named for named in parts[-1][1] if named[1] == parts[-1][1][-1][1]]
    found: dict[Named, Decay] = {}
    for direction in range(2 if both else 1):
        end = top[min(direction, len(top) - 1)]
        handing: dict[Named, _Handing] = {}

        def make(named: Named, scan: Scan, end: Named = end, kept: Any = handing) -> _Handing:
            kept[named] = _Handing(scan, last=named in top, read=named == end)
            return kept[named]  # type: ignore[no-any-return]

        with torch.enable_grad(), one_thread(), replaced(own, make, within), _cut(parts[-1][0], handing, end):
            total = _run(own, loss)
            decays_of = _norms(total, handing, end, seed)
            found |= {named: decay for named, decay in decays_of if named[2] == direction}
    return [found[named] for _, names in parts for named in names if named in found]


@contextmanager
def _cut(stack: Stack, handing: Mapping[Named, _Handing], end: Named) -> Iterator[None]:
    """While it lasts, only one step of what a stack gives has a gradient: that at which the direction `end` ends.

    A layer that is added to the one above it (`residual`) gives to every step by a way that no layer sees.
    """

    def hook(module: Any, given: Any, output: Any) -> Any:
        y = output[0]
        if not isinstance(y, Tensor):
            return output
        if stack.batch_first and y.dim() > 2:
            return output._replace(y=_only(y.transpose(0, 1), handing[end].at).transpose(0, 1))
        return output._replace(y=_only(y, handing[end].at))

    handle = stack.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _only(y: Tensor, at: int) -> Tensor:
    """The same values, of which only step `at` has a gradient."""
    kept = torch.zeros(len(y), *[1] * (y.dim() - 1), dtype=torch.bool)
    kept[at] = True
    return torch.where(kept, y, y.detach())


def _run(own: Any, loss: Callable[[Any], Tensor] | Tensor) -> Tensor | None:
    if isinstance(loss, Tensor):
        own(loss)
        return None
    return loss(own).sum()


def _norms(
    total: Tensor | None, handing: dict[Named, _Handing], end: Named, seed: int
) -> list[tuple[Named, Decay]]:
    """The decay of each layer and direction that has run."""
    ran = {named: one for named, one in handing.items() if one.handed}
    flat = [leaf for one in ran.values() for leaves in one.handed for leaf in leaves]
    gradients = _gradients(total, flat)
    probed = all(g is None or not bool(g.any()) for g in gradients)
    if probed and (y := handing[end].end) is not None and y.requires_grad:
        drawn = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=y.dtype)
        gradients = _gradients((drawn * y).sum(), flat)
    left, found = iter(gradients), []
    for named, one in ran.items():
        norms = []
        for leaves in one.handed:
            squares = [
                None if g is None else g.flatten(1).square().sum(1) for g in (next(left) for _ in leaves)
            ]
            known = [s for s in squares if s is not None]
            norms.append(torch.stack(known).sum(0).sqrt().mean() if known else torch.zeros(()).double())
        found.append((named, Decay(*named, torch.stack(norms[1:]).flip(0), probed)))
    return found


def _gradients(total: Tensor | None, leaves: Sequence[Tensor]) -> list[Tensor | None]:
    if total is None or not total.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(total, list(leaves), retain_graph=True, allow_unused=True))


class _Handing:
    """Stands in the place of a scan: the plain loop, with a copy of each state as it is handed to the next step.

    last: whether this is the last layer, of whose outputs the network reads only one, at the end of the reading, and
    only where `read`.
    """

    def __init__(self, scan: Scan, *, last: bool, read: bool) -> None:
        self.owner, self.step, self.last, self.read = scan.owner, scan.step, last, read
        # The states that the steps take, in the order of processing.
        self.handed: list[list[Tensor]] = []
        self.end: Tensor | None = None
        self.at = -1

    def __call__(
        self,
        x: Any,
        state: Any,
        *,
        lengths: Tensor | None = None,
        reverse: bool = False,
        checkpoint_every: int | None = None,
        **arguments: Any,
    ) -> ScanResult:
        T = tree_leaves(x)[0].shape[0]
        self.at = 0 if reverse else T - 1
        if lengths is not None and bool((lengths != T).any()):
            raise ValueError(
                f"lengths are {lengths.tolist()} of {T} steps; expected rows of one length: the last step must be one"
            )

        def step(x_t: Any, before: Any, *context: Any) -> Any:
            leaves, spec = tree_flatten(before)
            copies = [self._handed(leaf) for leaf in leaves]
            self.handed.append([leaf for leaf in copies if leaf.requires_grad])
            return self.step(x_t, tree_unflatten(copies, spec), *context)

        result = Scan(step, backend="loop")(x, state, reverse=reverse, **arguments)
        if not self.last or not isinstance(result.y, Tensor):
            return result
        y = _only(result.y, self.at) if self.read else result.y.detach()
        self.end = y[self.at] if self.read else None
        return result._replace(y=y)

    def _handed(self, leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        copied = leaf.clone()
        return copied if copied.requires_grad else copied.requires_grad_()
