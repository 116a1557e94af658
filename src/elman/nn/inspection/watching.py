"""States and gates of recurrent layers at every step, while a network runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from elman.engine import Scan, ScanResult
from elman.nn.cell_state import leaf_names
from elman.nn.cells.base import read_weights
from elman.nn.cells.gru import gru_step
from elman.nn.cells.lstm import lstm_step
from elman.nn.gru import GRU
from elman.nn.inspection.gates import StepValues, step_values
from elman.nn.lstm import LSTM
from elman.nn.rnn import RNN
from elman.nn.stack import Stack

__all__ = ["Named", "Track", "named_tracks", "one_thread", "own_copy", "schedule", "watch", "watching"]


@dataclass
class Track:
    """One direction of one layer, as it ran.

    name: "layer 1", "layer 1, backwards", ...; with the name of its part in front where a network has several.
    states, gates, candidates: tensors `(T, B, H)` by name (h, c; i, f, o; g), at the time of the input, whichever way
    the layer reads; NaN where a row takes no step. A gate goes from 0 to 1, a candidate from −1 to 1.
    """

    name: str
    layer: int
    direction: int
    states: dict[str, Tensor] = field(default_factory=dict)
    gates: dict[str, Tensor] = field(default_factory=dict)
    candidates: dict[str, Tensor] = field(default_factory=dict)

    @property
    def memory(self) -> tuple[str, Tensor]:
        """The state that remembers the most, by its name: the last one, h of a GRU, c of an LSTM.

        As its tanh where it goes beyond 1: a few cells that count far would hide what all others do.
        """
        if not self.states:
            raise ValueError(f"{self.name} has not run")
        name, values = list(self.states.items())[-1]
        beyond = bool((values.abs() > 1).any())
        return (f"tanh {name}", values.tanh()) if beyond else (name, values)


def watch(network: nn.Module, *inputs: Any, **keywords: Any) -> list[Track]:
    """Run `network(*inputs, **keywords)` once, on a copy in evaluation mode, and return what its layers did.

    network: a layer of elman.nn or torch.nn, `Recurrent(cell)`, or any module with such layers in it. One track for
    each layer and direction, in the order of torch.nn; where a layer is called several times, its steps in a row.

    Raises ValueError where there is no recurrent layer in it.
    """
    with watching(network) as (own, tracks):
        own(*inputs, **keywords)
    return tracks


@contextmanager
def watching(network: nn.Module, *, within: str = "") -> Iterator[tuple[Any, list[Track]]]:
    """A copy of the network whose layers are watched whenever it runs inside, without gradients, and their tracks.

    within: the name of the part whose layers are meant (`recurrent`); empty for all.
    """
    own = own_copy(network)
    tracks: list[Track] = []
    with (
        torch.no_grad(),
        one_thread(),
        replaced(own, lambda named, scan: _Watched(scan, new_track(tracks, named)), within),
    ):
        yield own, tracks


def new_track(tracks: list[Track], named: Named) -> Track:
    """A new track in the list."""
    tracks.append(Track(*named))
    return tracks[-1]


@contextmanager
def one_thread() -> Iterator[None]:
    """Steps are small: several threads would mostly wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# A copy of the network, its layers by name


def own_copy(network: nn.Module, dtype: torch.dtype | None = None) -> Any:
    """A copy on the CPU in evaluation mode, torch.nn's layers in it put into those of elman.nn.

    dtype: of its floating parameters and buffers, and of what its modules are given.
    """
    own = _as_ours(copy.deepcopy(network).cpu().eval())
    for name, module in list(own.named_modules()):
        ours = _as_ours(module)
        if ours is not module:
            parent, _, last = name.rpartition(".")
            setattr(own.get_submodule(parent), last, ours)
    if dtype is not None:
        own.to(dtype)
        for module in own.modules():
            module.register_forward_pre_hook(lambda _, given: _as(given, dtype))
    return own


def _as(tree: Any, dtype: torch.dtype) -> Any:
    return tree_map(
        lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, tree
    )


def _as_ours(module: nn.Module) -> nn.Module:
    if isinstance(module, Stack) or not isinstance(module, nn.LSTM | nn.GRU | nn.RNN):
        return module
    names = ("num_layers", "bias", "batch_first", "dropout", "bidirectional")
    given: dict[str, Any] = {name: getattr(module, name) for name in names}
    like = next(module.parameters())
    if isinstance(module, nn.LSTM):
        given["proj_size"] = module.proj_size
    if isinstance(module, nn.RNN):
        given["nonlinearity"] = module.nonlinearity
    kind: Any = LSTM if isinstance(module, nn.LSTM) else GRU if isinstance(module, nn.GRU) else RNN
    with torch.random.fork_rng(devices=[]):
        ours: nn.Module = kind(module.input_size, module.hidden_size, **given, dtype=like.dtype)
    ours.load_state_dict(module.state_dict())
    return ours.eval()


Named = tuple[str, int, int]


def named_tracks(network: nn.Module, within: str = "") -> list[tuple[Stack, list[Named]]]:
    """The stacks of a network, each with (name, layer, direction) of what it has, in the order of torch.nn.

    Stacks in one list are one stack to the reader; of other ones the name of the part stands in front.
    within: only those of a part. Raises ValueError where there is none.
    """
    stacks = [(path, module) for path, module in network.named_modules() if isinstance(module, Stack)]
    found = [(path, stack) for path, stack in stacks if f"{path}.".startswith(f"{within}." if within else "")]
    if not found:
        raise ValueError(
            f"{within or type(network).__name__} has no recurrent layer; expected a layer of elman.nn or torch.nn, "
            f"elman.nn.Recurrent(cell), or a module with such layers in it"
        )
    parents = {path.rpartition(".")[0] for path, _ in found}
    in_a_row = len(found) > 1 and len(parents) == 1 and isinstance(
        network.get_submodule(next(iter(parents))), nn.ModuleList | nn.Sequential
    )  # fmt: skip
    first, result = 0, []
    for path, stack in found:
        part = "" if len(found) == 1 or in_a_row else f"{path.removesuffix('.recurrent') or 'network'}, "
        names = [
            (f"{part}layer {first + layer + 1}{', backwards' if direction else ''}", first + layer, direction)
            for layer, direction, _ in stack.tracks()
        ]
        first += stack.num_layers if in_a_row else 0
        result.append((stack, names))
    return result


@contextmanager
def replaced(network: nn.Module, make: Callable[[Named, Scan], Any], within: str = "") -> Iterator[None]:
    """For a while, `make(named, scan)` in the place of each scan of a network."""
    boxes = []
    for stack, names in named_tracks(network, within):
        boxes.append((stack, stack.scans()))
        stack.put_scans([make(named, scan) for named, scan in zip(names, stack.scans(), strict=True)])
    try:
        yield
    finally:
        for stack, scans in boxes:
            stack.put_scans(scans)


# A scan that keeps what it sees


def schedule(T: int, lengths: Tensor | None, rows: int, *, reverse: bool) -> list[tuple[int, list[int]]]:
    """(t, the rows that take step t), in the order of processing."""
    ends = [T] * rows if lengths is None else [int(n) for n in lengths.tolist()]
    found = ((t, [b for b in range(rows) if t < ends[b]]) for t in range(T))
    kept = [(t, going) for t, going in found if going]
    return kept[::-1] if reverse else kept


_OF_TORCH: dict[type, Callable[[Any, Tensor, Any], Any]] = {
    nn.LSTMCell: lambda cell, x, state: lstm_step(x, state, read_weights(cell)),
    nn.GRUCell: lambda cell, x, state: gru_step(x, state, read_weights(cell)),
}


def _plain(step: Any) -> Callable[..., Any]:
    """A step in Python: torch's own cells run in C++, where their gates have no names."""
    own = _OF_TORCH.get(type(step))
    return step if own is None else partial(own, step)


class _Watched:
    """Stands in the place of a scan: the same in the plain loop, each step observed."""

    def __init__(self, scan: Scan, track: Track) -> None:
        self.owner, self.step, self.track = scan.owner, _plain(scan.step), track

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
        leaf = tree_leaves(x)[0]
        T, B = leaf.shape[:2]
        seen: list[tuple[dict[str, Tensor], StepValues]] = []

        def step(x_t: Any, before: Any, *context: Any) -> Any:
            out, values = step_values(self.step, (x_t, before, *context), tree_leaves)
            if tree_leaves(before)[0].shape[0]:
                seen.append((self._states(out, before), values))
            return out

        result = Scan(step, backend="loop")(x, state, lengths=lengths, reverse=reverse, **arguments)
        self._keep(seen, schedule(T, lengths, B, reverse=reverse), T, B)
        return result

    def _states(self, out: Any, before: Any) -> dict[str, Tensor]:
        """The floating tensors of the next state, by name."""
        count = len(tree_leaves(before))
        # A step returns (y, next state) or the next state alone; its last tensors are the state either way.
        after = tree_leaves(out)[-count:]
        return {
            name: leaf.detach().clone().flatten(1)
            for name, leaf in zip(self._names(before), after, strict=True)
            if leaf.is_floating_point() and leaf.dim() > 1
        }

    def _names(self, state: Any) -> list[str]:
        """Of the tensors of a state, as the cell says, else as torch's cells have them, else numbers."""
        owner = self.owner
        if isinstance(owner, nn.RNNCellBase):
            return ["h", "c"][: len(tree_leaves(state))]
        names = (
            leaf_names(owner, state) if owner is not None else tuple(map(str, range(len(tree_leaves(state)))))
        )
        if all(name.isdecimal() for name in names):
            return ["state"] if len(names) == 1 else [f"state {int(name) + 1}" for name in names]
        return list(names)

    def _keep(
        self,
        seen: list[tuple[dict[str, Tensor], StepValues]],
        places: list[tuple[int, list[int]]],
        T: int,
        B: int,
    ) -> None:
        """Put the values of all steps at their times and rows, behind those of the calls before."""
        for (t, rows), (states, values) in zip(places, seen, strict=True):
            for kind, found in (
                (self.track.states, states),
                (self.track.gates, values.gates),
                (self.track.candidates, values.candidates),
            ):
                for name, value in found.items():
                    blank = kind.get(name)
                    if blank is None or t == places[0][0]:
                        fresh = value.new_full((T, B, value.shape[1]), torch.nan).float()
                        blank = fresh if blank is None else torch.cat((blank, fresh))
                        kind[name] = blank
                    blank[-T:][t, rows] = value.float()
