"""Any recurrent cell over whole sequences: one layer, or a stack with one or two directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves, tree_map, tree_structure, tree_unflatten

from elman.engine import Scan
from elman.nn.cell_state import (
    default_state,
    entries,
    entry_names,
    leaf_names,
    output_size,
    own_size,
    rebuild,
    wanted_states,
)
from elman.nn.cells.base import check_size, layer_sizes
from elman.nn.dropout import ZoneoutRates, zoneout, zoneout_rates
from elman.nn.layout import Sequences, lay_out
from elman.nn.stack import Explanations, Merge, Output, OutputWithStates, Runner, Stack

__all__ = ["CellFactory", "Recurrent"]

CellFactory = Callable[[int, int], nn.Module]


class Recurrent(Stack):
    r"""A recurrent cell, unfolded over T steps by the engine.

        y_t, state_t = cell(x_t, state_{t−1}[, context])        t = 1 .. T

    cell: a module whose `forward(x_t, state[, context])` returns `(y_t, next_state)`, or only `next_state` as torch's
        own cells do (then y_t is its first tensor). x_t: `(B, I)`, or what the rows of the input are; state: a tensor
        or any (named) tuple of tensors `(B, ...)`. Given an instance it is one layer in one direction, and states have
        the cell's own structure. Given a factory `f(input_size, hidden_size) -> cell` (a cell's class is one), it is
        `num_layers` layers, each with one cell or with two if `bidirectional`; states are then tuples of `L·D` cell
        states in the order of torch.nn: layer 0, layer 0 reverse, layer 1, ... A layer passes on its cell's
        `output_size` features where the cell has such an attribute, else `hidden_size`.
    input_size, hidden_size: what the factory is called with; hidden_size may be a list, one width for each layer.
    dropout, sequence_dropout, residual, merge: between and around the layers, see `Stack`.
    zoneout: probability that a unit of the state keeps its value for a step (Krueger et al. 2017), a number for all of
        the state or a mapping by name (fields of a NamedTuple, the cell's `state_names`) or position. In eval mode the
        expectation. Where the cell returns a tensor of its state as y_t, y_t is that tensor after the zoneout.
    learn_initial_state: the default start becomes a parameter for each floating tensor of the state.
    reverse: from the last step of each row to its first (with `bidirectional` both directions are turned).
    fallback, backend: as for `elman.engine.Scan`: what to do where only the plain loop can run; which backend.
    checkpoint_every: k steps at a time, computed again in the backward: memory for very long sequences, see `Stack`.

    Without a given state the start is `cell.initial_state(batch, device, dtype)`, else zeros `(B, cell.hidden_size)`;
    ValueError where that is one tensor and the cell runs on a tuple of several.

    Raises ValueError for layers, directions or widths asked of an instance, and for a missing size of a factory.
    """

    def __init__(
        self,
        cell: nn.Module | CellFactory,
        input_size: int | None = None,
        hidden_size: int | Sequence[int] | None = None,
        num_layers: int = 1,
        *,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        reverse: bool = False,
        zoneout: ZoneoutRates | None = None,
        sequence_dropout: bool = False,
        residual: bool = False,
        merge: Merge = "concat",
        learn_initial_state: bool = False,
        fallback: str = "warn",
        backend: str | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        is_instance = isinstance(cell, nn.Module)
        sizes = None if hidden_size is None else layer_sizes(hidden_size, num_layers)
        super().__init__(
            num_layers if sizes is None else len(sizes),
            bidirectional=bidirectional,
            merge=merge,
            dropout=dropout,
            sequence_dropout=sequence_dropout,
            residual=residual,
            batch_first=batch_first,
            fallback=fallback,
            backend=backend,
            checkpoint_every=checkpoint_every,
        )
        if is_instance and (self.num_layers > 1 or bidirectional):
            raise ValueError(
                f"num_layers={self.num_layers}, bidirectional={bidirectional} with one cell instance; give a factory "
                f"f(input_size, hidden_size) -> cell, for example the class {type(cell).__name__}"
            )
        if not callable(cell):
            raise TypeError(
                f"cell is {type(cell).__name__}; expected a module, or a factory that makes modules"
            )
        if not isinstance(zoneout, Mapping):
            zoneout_rates(zoneout, ())
        _check_cell(cell)
        self.is_instance = is_instance
        self.reverse = reverse
        self._zoneout = zoneout
        self.learn_initial_state = learn_initial_state
        self.cells = nn.ModuleList(
            [cell] if isinstance(cell, nn.Module) else self._make_cells(cell, input_size, sizes)
        )
        self.input_size = input_size or own_size(self.cells[0], "input_size")
        if learn_initial_state:
            self._make_starts()
        tops = [self.cells[layer * self.num_directions] for layer in range(self.num_layers)]
        self._finish(self.input_size, [output_size(cell) for cell in tops])

    def _make_cells(
        self, factory: CellFactory, input_size: int | None, sizes: tuple[int, ...] | None
    ) -> list[nn.Module]:
        if input_size is None or sizes is None:
            raise ValueError("a factory of cells needs input_size and hidden_size; or give one cell instance")
        check_size("input_size", input_size)
        cells: list[nn.Module] = []
        for layer, direction, _ in self._tracks():
            if layer > 0 and direction == 0:
                input_size = self._merged(output_size(cells[-1]) or sizes[layer - 1])
            cell = factory(input_size, sizes[layer])
            if not isinstance(cell, nn.Module):
                raise TypeError(
                    f"the factory of cells returned {type(cell).__name__}; expected a torch.nn.Module"
                )
            cells.append(cell)
        return cells

    @property
    def zoneout(self) -> ZoneoutRates | None:
        """The rates that the layer was made with."""
        return self._zoneout

    @property
    def cell(self) -> nn.Module:
        """The cell of the first layer in its first direction."""
        return self.cells[0]

    def _scan(self, layer: int, direction: int, suffix: str) -> Scan:
        cell = self.cells[layer * self.num_directions + direction]
        step = cell if self.zoneout is None else _ZoneoutStep(cell, self.zoneout)
        return Scan(step, owner=cell, fallback=self.fallback, backend=self.backend)

    def scans(self) -> tuple[Scan, ...]:
        """The scan of each layer and direction, made anew where another cell has been put in a place."""
        cells: dict[str, nn.Module] = self._modules["cells"]._modules  # type: ignore[union-attr, assignment]
        scans = self._scans
        if len(scans) != len(cells) or any(
            s.owner is not c for s, c in zip(scans, cells.values(), strict=True)
        ):
            self._make_scans()
        return self._scans

    # ---- where the state starts

    def _make_starts(self) -> None:
        for cell, (*_, suffix) in zip(self.cells, self._tracks(), strict=True):
            like = next((p for p in cell.parameters() if p.is_floating_point()), torch.empty(0))
            start = default_state(cell, 1, like.device, like.dtype)
            for name, leaf in zip(leaf_names(cell, start), tree_leaves(start), strict=True):
                if leaf.is_floating_point():
                    self.register_parameter(f"initial_{name}{suffix}", nn.Parameter(leaf[0].detach().clone()))

    def _default_starts(self, sequences: Sequences) -> list[Any]:
        x = sequences.x if isinstance(sequences.x, Tensor) else tree_leaves(sequences.x)[0]
        starts = []
        for cell, (*_, suffix) in zip(self.cells, self._tracks(), strict=True):
            dtype = x.dtype if x.is_floating_point() else next((p.dtype for p in cell.parameters()), None)
            start = default_state(cell, sequences.batch, x.device, dtype)
            starts.append(self._learned(cell, start, suffix) if self.learn_initial_state else start)
        return starts

    def _learned(self, cell: nn.Module, start: Any, suffix: str) -> Any:
        leaves = []
        for name, leaf in zip(leaf_names(cell, start), tree_leaves(start), strict=True):
            parameter = getattr(self, f"initial_{name}{suffix}", None)
            leaves.append(leaf if parameter is None else parameter.expand_as(leaf))
        return tree_unflatten(leaves, tree_structure(start))

    def _starts(self, given: Any, sequences: Sequences, what: str) -> list[Any]:
        """One state for each layer and direction, rows in the engine's order."""
        if given is None:
            return self._default_starts(sequences)
        states = [given] if self.is_instance else given
        if not isinstance(states, tuple | list) or len(states) != len(self.cells):
            raise RuntimeError(
                f"Recurrent: {what} is {type(given).__name__}; expected a tuple of {len(self.cells)} cell states, one "
                f"for each layer and direction"
            )
        states = [sequences.rows_in(state) for state in states]
        for leaf in tree_leaves(states):
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or leaf.shape[0] != sequences.batch:
                found = tuple(leaf.shape) if isinstance(leaf, Tensor) else type(leaf).__name__
                raise RuntimeError(
                    f"Recurrent: {what} holds {found}; expected tensors of {sequences.batch} rows"
                )
        return states

    # ---- the call

    @overload
    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        context: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: Literal[False] = False,
    ) -> Output: ...

    @overload
    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        context: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: Literal[True],
    ) -> OutputWithStates: ...

    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        context: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
    ) -> Output | OutputWithStates:
        """Run over whole sequences; returns `(y, state)`, or with `return_states` `(y, state, states)`.

        x: a tensor or a tuple of tensors `(T, B, ...)`, with `batch_first` `(B, T, ...)`, or a PackedSequence; for a
            cell with an `input_size` also one sequence `(T, I)`, the states and contexts then without a batch axis.
        state: where to start; default `initial_state`, else the cell's default or the learned start.
        context: tensors `(B, ...)` that stay the same over the steps, handed to every cell.
        initial_state: where a reset leads to; default as for `state`.
        lengths: integers `(B,)` on any device, zero allowed: a row that has ended keeps its state and gives zeros.
        mask: bool, the layout of the input's time and batch axes; false where a row takes no step: its state is held,
            y is zero there, and nothing of that step reaches a value or a gradient.
        reset: bool, the same layout; true where the state goes back before that step, or before the row's next one
            where the mask leaves that step out.
        states: the states after every step, the structure of `state`, the layout of the input's time and batch axes.
        """
        try:
            return self._call(x, state, context, initial_state, lengths, mask, reset, return_states)
        except Exception as error:
            if state is None and (why := self._wrong_start(x, context)) is not None:
                raise ValueError(why) from error
            raise

    def _wrong_start(self, x: Any, context: Any) -> str | None:
        """What to do where the cell's state is more than the one tensor that it was started from."""
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or not x.numel():
            return None
        x_t = x[:1] if x.dim() == 2 else x[:, 0] if self.batch_first else x[0]
        k = wanted_states(self.cell, x_t, x_t.shape[0], context)
        if k is None:
            return None
        kind, size = type(self.cell).__name__, own_size(self.cell, "hidden_size")
        return (
            f"no state was given, and {kind} has no initial_state: it was started from one tensor of zeros "
            f"({x_t.shape[0]}, {size}), but runs on a tuple of {k}; give it initial_state(batch, device, dtype), which "
            f"returns {k} tensors, or pass state="
        )

    def check(self, x: Any, state: Any = None, *, context: Any = None) -> Explanations:
        """Verify on this data that the engine runs each cell as the plain loop does; says how it runs.

        Raises EngineError where a cell is outside the fast path's rules, with what to write instead.
        """
        found = Explanations()
        self._call(x, state, context, scans=self._checked_scans(found))
        return found

    def _call(
        self,
        x: Any,
        state: Any = None,
        context: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
        scans: Sequence[Runner] | None = None,
    ) -> Output | OutputWithStates:
        given = (context, initial_state, lengths, mask, reset, scans)
        alone = not return_states and all(argument is None for argument in given) and self._is_alone(x)
        if alone and (state is None or _has_rows(state, x.shape[1])):
            return self._call_alone(x, state)
        sequences = lay_out(
            x, lengths=lengths, mask=mask, reset=reset, batch_first=self.batch_first, batched=self._check_input(x),
            holes=mask is not None and self._find_holes(scans),
        )  # fmt: skip
        targets = None
        if initial_state is not None or state is None or reset is not None:
            targets = self._starts(initial_state, sequences, "initial_state")
        starts = targets if state is None else self._starts(state, sequences, "state")
        assert starts is not None
        if isinstance(self.zoneout, Mapping):
            for cell, start in zip(self.cells, starts, strict=True):
                zoneout_rates(self.zoneout, entry_names(cell, start))
        result = self._unfold(
            sequences,
            starts,
            None if reset is None else targets,
            [None if context is None else sequences.rows_in(context)] * len(self.cells),
            flip=self.reverse,
            return_states=return_states,
            scans=scans,
        )
        y, final = sequences.outputs_out(result.y), self._states_out(result.finals, sequences)
        if not return_states:
            return Output(y, final)
        return OutputWithStates(y, final, sequences.steps_out(self._own(result.states)))

    def _is_alone(self, x: Any) -> bool:
        """Whether this is one padded batch for one cell, with nothing before, between or behind."""
        extras = self.zoneout is not None or self.learn_initial_state or self.residual or self.batch_first
        batch = self.is_instance and not extras and isinstance(x, Tensor) and x.dim() >= 3
        return batch and x.is_floating_point() and x.numel() > 0 and self._check_input(x)

    def _call_alone(self, x: Tensor, state: Any) -> Output:
        """The same as `_call` in a fraction of its time, which is a part of a small cell's."""
        scan = self.scans()[0]
        if state is None:
            state = default_state(scan.owner or self.cell, x.shape[1], x.device, x.dtype)
        result = scan(x, state, reverse=self.reverse, checkpoint_every=self._every(x))
        return Output(result.y, result.state)

    def _own(self, states: list[Any]) -> Any:
        return states[0] if self.is_instance else tuple(states)

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any:
        return sequences.rows_out(self._own(states))

    def call_on(
        self, scans: Sequence[Runner], x: Any, state: Any = None, context: Any = None, **options: Any
    ) -> Any:
        """As for `Stack`."""
        return self._call(x, state, context, **options, scans=scans)

    def _lone_state(self) -> tuple[int, ...] | None:
        alone = self.is_instance and not (self.residual or self.learn_initial_state or self.zoneout)
        return () if alone else None

    def _draws(self) -> bool:
        return super()._draws() or self.zoneout is not None

    def _check_input(self, x: Any) -> bool:
        """Whether x has a batch axis; RuntimeError where its last size is not the cell's input_size."""
        rows = x.data if isinstance(x, PackedSequence) else x
        for leaf in () if isinstance(rows, Tensor) else tree_leaves(rows):
            if not isinstance(leaf, Tensor):
                raise TypeError(f"Recurrent: the input holds {type(leaf).__name__}; expected tensors")
        if self.residual and not isinstance(rows, Tensor):
            raise TypeError(
                f"Recurrent: residual=True adds the input, a {type(rows).__name__}; expected a tensor"
            )
        if self.input_size is None or not isinstance(rows, Tensor) or not rows.is_floating_point():
            return True
        if rows.dim() in (2, 3) and rows.shape[-1] != self.input_size:
            raise RuntimeError(
                f"Recurrent: input has shape {tuple(rows.shape)}; its last size must be equal to input_size = "
                f"{self.input_size}"
            )
        return isinstance(x, PackedSequence) or rows.dim() != 2

    def extra_repr(self) -> str:
        """What differs from the default."""
        shown = [f"num_layers={self.num_layers}"] if self.num_layers != 1 else []
        shown += self._extras_repr()
        shown += [f"{name}=True" for name in ("reverse", "learn_initial_state") if getattr(self, name)]
        return ", ".join(shown + ([] if self.zoneout is None else [f"zoneout={self.zoneout!r}"]))


def _has_rows(state: Any, rows: int) -> bool:
    """Whether a state is a tensor or a tuple of tensors of so many rows: what needs no closer look."""
    leaves = state if type(state) is tuple else (state,)
    return all(isinstance(leaf, Tensor) and leaf.dim() > 0 and leaf.shape[0] == rows for leaf in leaves)


def _check_cell(cell: Any) -> None:
    """TypeError for a layer, or a class of layers, in the place of a cell."""
    kind = cell if isinstance(cell, type) else type(cell)
    if issubclass(kind, (nn.RNNBase, Stack)):
        own = f", or give {kind.__name__}Cell" if hasattr(nn, f"{kind.__name__}Cell") else ""
        raise TypeError(
            f"{kind.__name__} is a layer, not a cell: it takes whole sequences; use it as it is{own}"
        )


class _ZoneoutStep:
    """A cell whose states are zoned out after each step."""

    def __init__(self, cell: nn.Module, rates: ZoneoutRates) -> None:
        self.cell = cell
        self.rates = rates

    def __call__(self, x: Any, state: Any, *context: Any) -> Any:
        out = self.cell(x, state, *context)
        only_state = tree_structure(out) == tree_structure(state)
        y, new = (None, out) if only_state else out
        zoned = self._zone(state, new)
        if only_state:
            return zoned
        after = dict(zip(map(id, tree_leaves(new)), tree_leaves(zoned), strict=True))
        return tree_map(lambda leaf: after.get(id(leaf), leaf), y), zoned

    def _zone(self, old: Any, new: Any) -> Any:
        if isinstance(self.rates, int | float):
            return zoneout(old, new, float(self.rates), self.cell.training)
        rates = zoneout_rates(self.rates, entry_names(self.cell, old))
        parts = zip(entries(old), entries(new), rates, strict=True)
        return rebuild(new, [zoneout(a, b, rate, self.cell.training) for a, b, rate in parts])
