"""Layers above each other, one or two directions in each: the mechanism behind every recurrent layer here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import _register_namedtuple, tree_leaves

from elman.engine import EngineError, Scan, ScanResult, check, refuse_tracing
from elman.nn.cells.base import check_size
from elman.nn.dropout import check_rate, sequence_mask
from elman.nn.freezing import Frozen
from elman.nn.layout import Sequences, without_padding
from elman.nn.streaming import Stream

__all__ = ["Explanations", "Merge", "Output", "OutputWithStates", "Stack", "StackResult"]

Merge = Literal["concat", "sum", "mean", "product"]
Runner = Callable[..., ScanResult]
_MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: torch.cat((a, b), dim=2),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: (a + b) / 2,
    "product": lambda a, b: a * b,
}


class Output(NamedTuple):
    """What a recurrent layer returns: the outputs of all steps, and the state after the last one."""

    y: Any
    state: Any


class OutputWithStates(NamedTuple):
    """`Output`, and the states after every step."""

    y: Any
    state: Any
    states: Any


for _kind in (Output, OutputWithStates):  # an exported program names what it returns
    _register_namedtuple(_kind, serialized_type_name=f"elman.nn.{_kind.__name__}")


class StackResult(NamedTuple):
    """The outputs of the top layer, and for each layer and direction the final state and the states of all steps."""

    y: Any
    finals: list[Any]
    states: list[Any]


class Explanations(dict[str, Any]):
    """The engine's explanation for each layer and direction, by name; prints as a text."""

    def __str__(self) -> str:
        return "\n".join(f"{name}: {explanation}" for name, explanation in self.items())


class ScanBox:
    """The scans of a stack. It has slots: a scan watches what a module's attributes hold, and must not watch itself."""

    __slots__ = ("scans",)

    def __init__(self, scans: Sequence[Scan]) -> None:
        self.scans = tuple(scans)


class Stack(nn.Module):
    """`num_layers` layers of one or two directions, each layer and direction a `Scan` of its own.

    Between the layers: dropout on the input of every layer but the first (elements as in torch.nn, or with
    `sequence_dropout` one mask a sequence). The two directions are merged by `merge`: concatenated, or their sum, mean
    or product. `residual` adds the input of a layer, before the dropout, to its output: in every layer but the first,
    and in the first where the widths agree.

    `checkpoint_every=k` runs each layer and direction k steps at a time and computes each chunk again in the backward.
    What is kept then is, for each layer and direction, its x and y `(T, B, ...)` and one state `(B, ...)` for every k
    steps, not what each step keeps; the gradients are exact. It costs one more forward, and a call's overhead for each
    chunk; about sqrt(T) needs the least memory. A call of k steps or fewer would be one chunk, and runs as without it.

    `output_size` is the number of features of y; None where the cells do not say.

    A subclass makes the scans in `_scan`, and calls `_finish` at the end of its constructor.
    """

    output_size: int | None

    def __init__(
        self,
        num_layers: int,
        *,
        bidirectional: bool,
        merge: Merge,
        dropout: float,
        sequence_dropout: bool,
        residual: bool,
        batch_first: bool,
        fallback: str,
        backend: str | None,
        checkpoint_every: int | None,
    ) -> None:
        nn.Module.__init__(self)  # of any further base only the names are wanted
        if merge not in _MERGES:
            raise ValueError(f"merge={merge!r}; expected one of {', '.join(map(repr, _MERGES))}")
        if merge != "concat" and not bidirectional:
            raise ValueError(f"merge={merge!r} has no effect with one direction; give bidirectional=True")
        if not isinstance(batch_first, bool):
            raise TypeError(f"batch_first should be of type bool, got: {type(batch_first).__name__}")
        self.num_layers = check_size("num_layers", num_layers)
        self.bidirectional = bidirectional
        self.merge = merge
        self.dropout = check_rate("dropout", dropout)
        self.sequence_dropout = sequence_dropout
        self.residual = residual
        self.batch_first = batch_first
        self.checkpoint_every = (
            None if checkpoint_every is None else check_size("checkpoint_every", checkpoint_every)
        )
        self._scan_options = {"fallback": fallback, "backend": backend}
        if self.dropout > 0 and num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts between layers, and there is one layer only (num_layers=1): no effect",
                stacklevel=4,
            )

    # ---- structure

    @property
    def num_directions(self) -> int:
        """1 or 2."""
        return 2 if self.bidirectional else 1

    def _tracks(self) -> Iterator[tuple[int, int, str]]:
        """(layer, direction, suffix of torch's parameter names) of each layer and direction, in torch's order."""
        for layer in range(self.num_layers):
            for direction in range(self.num_directions):
                yield layer, direction, f"_l{layer}" + ("_reverse" if direction else "")

    def _merged(self, size: int) -> int:
        """The width of a layer's output whose directions give `size` features each."""
        return size * self.num_directions if self.merge == "concat" else size

    def _finish(self, input_size: int | None, output_sizes: Sequence[int | None]) -> None:
        """Check the widths that `residual` adds up, and make the scans."""
        widths = [input_size, *(None if size is None else self._merged(size) for size in output_sizes)]
        self.output_size = widths[-1]
        self._equal_widths = tuple(a is not None and a == b for a, b in pairwise(widths))
        for layer in range(self.num_layers):
            if self.residual and not self._equal_widths[layer] and (layer > 0 or self.num_layers == 1):
                raise ValueError(
                    f"residual=True: layer {layer} takes {widths[layer]} features and gives {widths[layer + 1]}; "
                    f"expected equal widths"
                )
        self._make_scans()

    def _make_scans(self) -> None:
        self._box = ScanBox([self._scan(*track) for track in self._tracks()])

    @property
    def _scans(self) -> tuple[Scan, ...]:
        return self._box.scans

    def _scan(self, layer: int, direction: int, suffix: str) -> Scan:
        raise NotImplementedError

    @property
    def fallback(self) -> str:
        """What happens where only the plain loop can run: "warn" or "error". Setting it traces anew."""
        return str(self._scan_options["fallback"])

    @fallback.setter
    def fallback(self, fallback: str) -> None:
        self._scan_options["fallback"] = fallback
        self._make_scans()

    @property
    def backend(self) -> str | None:
        """The backend that was asked for; None for the fastest that can. Setting it traces anew."""
        return self._scan_options["backend"]

    @backend.setter
    def backend(self, backend: str | None) -> None:
        self._scan_options["backend"] = backend
        self._make_scans()

    # A copy gets scans of its own: those of the original read the original's parameters.

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_box"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nn.Module.__setstate__(self, state)
        self._make_scans()

    def _replicate_for_data_parallel(self) -> Stack:
        # The replica's submodules are put in place only afterwards: it makes its scans at its first call.
        replica: Stack = nn.Module._replicate_for_data_parallel(self)
        replica._box = ScanBox(())
        return replica

    # ---- what writes a model down by running it

    def _slow_forward(self, *input: Any, **kwargs: Any) -> Any:
        """What torch calls instead of forward while torch.jit.trace or the older torch.onnx.export is under way."""
        refuse_tracing()
        return super()._slow_forward(*input, **kwargs)  # type: ignore[no-untyped-call]

    def __prepare_scriptable__(self) -> Any:
        """What torch.jit.script asks for first."""
        raise EngineError(
            f"torch.jit.script knows no {type(self).__name__}, whose loop is no TorchScript; use torch.export.export"
        )

    # ---- one step at a time

    def stream(self, state: Any = None, *, context: Any = None) -> Stream:
        """The layer for one step at a time, the state carried from call to call: `y_t = stream(x_t)`.

        state: where to start, in the structure that the layer takes; default as in a call. context: for a `Recurrent`.
        ValueError with a backward direction, or in training mode where the layer draws random numbers.
        """
        return Stream(self, state, context=context)

    def freeze(self) -> Frozen:
        """The layer for answers alone: called as it is, its weights packed once. RuntimeError in training mode."""
        return Frozen(self)

    def call_on(self, scans: Sequence[Runner], *args: Any, **options: Any) -> Any:
        """A call with others in the place of the scans, one for each layer and direction."""
        raise NotImplementedError

    def _lone_state(self) -> tuple[int, ...] | None:
        """The sizes before the batch axis of a state, where the layer is one cell and nothing else; else None."""
        return None

    def start(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Any:
        """The state that a call without one begins with, for `batch` sequences, as the layer returns states."""
        like = torch.empty(1, batch, getattr(self, "input_size", None) or 1, device=device, dtype=dtype)
        sequences = Sequences(like, None, None, False, True, None)
        return self._states_out(self._starts(None, sequences, "the state"), sequences)

    def _draws(self) -> bool:
        """Whether a call in training mode draws random numbers."""
        return self.dropout > 0 and self.num_layers > 1

    def _starts_at_zero(self) -> bool:
        """Whether the default state is zero, whatever else the layer holds."""
        return False

    def _starts(self, given: Any, sequences: Sequences, name: str) -> list[Any]:
        """One state for each layer and direction, `given` or the default, rows in the engine's order."""
        raise NotImplementedError

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any:
        """One state for each layer and direction, in the structure and the row order of the caller."""
        raise NotImplementedError

    def _check_input(self, x: Any) -> Any:
        raise NotImplementedError

    def scans(self) -> tuple[Scan, ...]:
        """The scan of each layer and direction."""
        if not self._scans:
            self._make_scans()
        return self._scans

    def put_scans(self, scans: Sequence[Any]) -> None:
        """Others in the place of the scans, called in the same way and with the same `owner`: what looks on."""
        self._box = ScanBox(scans)

    def tracks(self) -> Iterator[tuple[int, int, str]]:
        """(layer, direction, suffix of torch's parameter names) of each layer and direction, in torch's order."""
        return self._tracks()

    # ---- running

    def _find_holes(self, scans: Sequence[Runner] | None) -> bool:
        """Whether those that run take a mask, and need no steps moved together."""
        return scans is None and all(type(scan) is Scan for scan in self.scans())

    def _unfold(
        self,
        sequences: Sequences,
        starts: Sequence[Any],
        targets: Sequence[Any] | None,
        contexts: Sequence[Any],
        *,
        flip: bool = False,
        return_states: bool = False,
        scans: Sequence[Runner] | None = None,
    ) -> StackResult:
        """Run all layers; starts, targets (of resets) and contexts: one for each layer and direction.

        `flip` runs the first direction from the last step to the first, and a second one the other way. `scans` take
        the place of the stack's own.
        """
        own = self.scans()
        masked = {} if sequences.mask is None else {"mask": sequences.mask}
        x, finals, histories = sequences.x, [], []
        for layer in range(self.num_layers):
            inputs = x if layer == 0 else self._drop(x)
            outputs = []
            for direction in range(self.num_directions):
                k = layer * self.num_directions + direction
                result = (scans or own)[k](
                    inputs,
                    starts[k],
                    context=contexts[k],
                    initial_state=None if targets is None else targets[k],
                    lengths=sequences.lengths,
                    reset=sequences.reset,
                    reverse=flip != (direction == 1),
                    return_states=return_states,
                    checkpoint_every=self._every(inputs),
                    **masked,
                )
                outputs.append(result.y)
                finals.append(result.state)
                histories.append(result.states)
            y = self._merge(outputs)
            adds = self.residual and self._equal_widths[layer]
            x = y + without_padding(x, sequences.lengths, sequences.mask) if adds else y
        return StackResult(x, finals, histories)

    def _merge(self, outputs: list[Any]) -> Any:
        """The outputs of the directions as one; TypeError where a stack would need one tensor and has others."""
        if self.num_layers * self.num_directions == 1 and not self.residual:
            return outputs[0]
        if not isinstance(outputs[0], Tensor):
            raise TypeError(
                f"the cell's y_t is a {type(outputs[0]).__name__}; expected one tensor, to be merged, added or "
                f"handed on (one layer in one direction may give any structure)"
            )
        return outputs[0] if len(outputs) == 1 else _MERGES[self.merge](*outputs)

    def _every(self, x: Any) -> int | None:
        """The steps of a chunk; None for a call that would be one chunk, all of it computed again in the backward, and
        for an exported one, whose number of steps is open."""
        every = None if torch.compiler.is_exporting() else self.checkpoint_every
        return None if every is None or len(tree_leaves(x)[0]) <= every else every

    def _drop(self, x: Any) -> Any:
        if self.dropout == 0 or not self.training:
            return x
        if self.sequence_dropout:
            return x * sequence_mask(x, x.shape[1:], self.dropout)
        return F.dropout(x, self.dropout, training=True)

    # ---- saying what ran

    @property
    def path(self) -> str | None:
        """Which path the last call took: "native", "reference", "loop" or "vendor"; joined by "+" where they differ.

        None before the first call.
        """
        taken = dict.fromkeys(scan.path for scan in self._scans)
        return "+".join(taken_path for taken_path in taken if taken_path is not None) or None

    def explain(self) -> Explanations:
        """Which path ran and why, for each layer and direction."""
        named = zip(self._tracks(), self._scans, strict=True)
        return Explanations({suffix.removeprefix("_"): scan.explain() for (*_, suffix), scan in named})

    def _checked_scans(self, found: Explanations) -> list[Runner]:
        """The scans, each verified on the data of its first call; what was found is put into `found`."""

        def checked(name: str, scan: Scan) -> Runner:
            def run(x: Any, state: Any, *, context: Any = None, **arguments: Any) -> ScanResult:
                found[name] = check(scan.step, x, state, context=context, owner=scan.owner)
                return scan(x, state, context=context, **arguments)

            return run

        named = zip(self._tracks(), self._scans, strict=True)
        return [checked(suffix.removeprefix("_"), scan) for (*_, suffix), scan in named]

    def _extras_repr(self) -> list[str]:
        """What differs from the defaults of the options that all stacks have."""
        shown = ["batch_first=True"] if self.batch_first else []
        shown += [f"dropout={self.dropout}"] if self.dropout else []
        shown += [
            f"{name}=True"
            for name in ("bidirectional", "sequence_dropout", "residual")
            if getattr(self, name)
        ]
        shown += [f"merge={self.merge!r}"] if self.merge != "concat" else []
        return shown + ([f"checkpoint_every={self.checkpoint_every}"] if self.checkpoint_every else [])
