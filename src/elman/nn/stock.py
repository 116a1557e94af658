"""What RNN, LSTM and GRU share: torch's parameters and state layout, and the options that torch does not have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached
from torch.nn.utils.rnn import PackedSequence

from elman.engine import Scan
from elman.nn.cells.base import Weights, check_size, layer_sizes, read_weights
from elman.nn.dropout import ZoneoutRates, check_rate, sequence_mask, zoneout, zoneout_rates
from elman.nn.dynamo import let_into_graphs
from elman.nn.layout import Sequences, lay_out
from elman.nn.stack import Explanations, Merge, Output, OutputWithStates, Runner
from elman.nn.state import StateLayout
from elman.nn.torch_names import TorchNames
from elman.nn.vendor import VENDOR_DEVICES, Kernel, VendorCall, run_vendor

__all__ = ["LayerNorm", "StockLayer"]

LayerNorm = Literal["separate", "sum"]


class _Step:
    """The step of one layer in one direction: it reads the owner's parameters that end in `suffix`, and its options."""

    def __init__(self, owner: StockLayer, suffix: str) -> None:
        self.owner = owner
        self.suffix = suffix

    def __call__(self, x: Tensor, state: Any, mask: Tensor | None = None) -> tuple[Tensor, Any]:
        owner = self.owner
        old = state if isinstance(state, tuple) else (state,)
        new = owner._advance(x, old, self.suffix, mask)
        rates = zoneout_rates(owner.zoneout, owner.state_names)
        new = tuple(zoneout(a, b, rate, owner.training) for a, b, rate in zip(old, new, rates, strict=True))
        return new[0], new if isinstance(state, tuple) else new[0]


class StockLayer(TorchNames):
    """A layer of torch.nn: the same parameters, initialisation, arguments and results, and more options.

    A subclass gives the number of gates, the names of its states and one step, `_advance`, and calls `_build` at the
    end of its constructor.
    """

    gates: int
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    _layer_norms: ClassVar[tuple[str, ...]] = ("separate", "sum")
    _dropout_places: ClassVar[tuple[str, ...]] = ("state", "candidate")

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        *,
        proj_size: int = 0,
        layer_norm: LayerNorm | None,
        weight_dropout: float,
        recurrent_dropout: float,
        recurrent_dropout_on: Literal["state", "candidate"],
        zoneout: ZoneoutRates | None,
        sequence_dropout: bool,
        residual: bool,
        merge: Merge,
        learn_initial_state: bool,
        fallback: str,
        backend: str | None,
        checkpoint_every: int | None,
    ) -> None:
        sizes = layer_sizes(hidden_size, num_layers)
        super().__init__(
            len(sizes),
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
        if not isinstance(bias, bool):
            raise TypeError(f"bias should be of type bool, got: {type(bias).__name__}")
        if not 0 <= proj_size < min(sizes):
            raise ValueError(
                f"proj_size={proj_size}; expected 0 (none) or less than hidden_size = {hidden_size}"
            )
        if layer_norm not in (None, *self._layer_norms):
            raise ValueError(f"layer_norm={layer_norm!r}; expected None or one of {self._layer_norms}")
        if recurrent_dropout_on not in self._dropout_places:
            raise ValueError(
                f"recurrent_dropout_on={recurrent_dropout_on!r}; expected one of {self._dropout_places}"
            )
        self.input_size = check_size("input_size", input_size)
        self.hidden_size = hidden_size if isinstance(hidden_size, int) else sizes
        self.hidden_sizes = sizes
        self.bias = bias
        self.proj_size = proj_size
        self.layer_norm = layer_norm
        self.weight_dropout = check_rate("weight_dropout", weight_dropout)
        self.recurrent_dropout = check_rate("recurrent_dropout", recurrent_dropout)
        self.recurrent_dropout_on = recurrent_dropout_on
        zoneout_rates(zoneout, self.state_names)
        self.zoneout = zoneout
        self.learn_initial_state = learn_initial_state
        self._layout = StateLayout(
            label=type(self).__name__,
            names=self.state_names,
            sizes=tuple(self._state_sizes(layer) for layer in range(self.num_layers)),
            directions=self.num_directions,
            listed=not isinstance(hidden_size, int),
        )
        self._vendor = VendorCall()

    def _build(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Make the parameters and the scans; the last thing that a constructor does."""
        self._make_parameters(device, dtype)
        self._finish(self.input_size, [self._output_size(layer) for layer in range(self.num_layers)])

    # ---- parameters

    def _output_size(self, layer: int) -> int:
        return self.proj_size or self.hidden_sizes[layer]

    def _state_sizes(self, layer: int) -> tuple[int, ...]:
        return (self._output_size(layer), self.hidden_sizes[layer])[: len(self.state_names)]

    def _stock_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The parameters that torch.nn has too, in torch's order."""
        rows = self.gates * self.hidden_sizes[layer]
        inputs = self.input_size if layer == 0 else self._merged(self._output_size(layer - 1))
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs)}
        shapes["weight_hh"] = (rows, self._output_size(layer))
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        return shapes | ({"weight_hr": (self.proj_size, self.hidden_sizes[layer])} if self.proj_size else {})

    def _extra_shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The parameters of the options that torch.nn does not have."""
        rows = self.gates * self.hidden_sizes[layer]
        gains = {None: (), "separate": ("gain_ih", "gain_hh"), "sum": ("gain_sum",)}[self.layer_norm]
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(gains, (rows,))
        if self.learn_initial_state:
            sizes = zip(self.state_names, self._state_sizes(layer), strict=True)
            shapes |= {f"initial_{name}": (size,) for name, size in sizes}
        return shapes

    def _make_parameters(self, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        """Torch's own first, so that one seed draws the same weights with every option."""
        for shapes_of in (self._stock_shapes, self._extra_shapes):
            for layer, _, suffix in self._tracks():
                for name, shape in shapes_of(layer).items():
                    empty = torch.empty(shape, device=device, dtype=dtype)
                    self.register_parameter(name + suffix, nn.Parameter(empty))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew: U(−1/sqrt(H), 1/sqrt(H)); gains one, starts and a normalized cell's biases zero."""
        for shapes_of in (self._stock_shapes, self._extra_shapes):
            for layer, _, suffix in self._tracks():
                bound = 1.0 / math.sqrt(self.hidden_sizes[layer])
                for name in shapes_of(layer):
                    p = getattr(self, name + suffix)
                    if name.startswith("gain"):
                        nn.init.ones_(p)
                    elif name == "bias_cell" or name.startswith("initial"):
                        nn.init.zeros_(p)
                    else:
                        nn.init.uniform_(p, -bound, bound)

    # ---- one step

    def _scan(self, layer: int, direction: int, suffix: str) -> Scan:
        return Scan(_Step(self, suffix), owner=self, fallback=self.fallback, backend=self.backend)

    def _advance(
        self, x: Tensor, state: tuple[Tensor, ...], suffix: str, mask: Tensor | None
    ) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _weights(self, suffix: str) -> Weights:
        """The tensors of one layer and direction, the recurrent matrix with this call's mask in training."""
        weights = read_weights(self, suffix)
        if self.weight_dropout == 0 or not self.training:
            return weights
        return weights._replace(weight_hh=weights.weight_hh * getattr(self, f"mask_hh{suffix}"))

    def _draw_weight_masks(self) -> None:
        """One mask a call on each recurrent matrix, in a buffer, where the steps of the call find it."""
        for *_, suffix in self._tracks():
            weight: Tensor = getattr(self, f"weight_hh{suffix}")
            mask = sequence_mask(weight, weight.shape, self.weight_dropout)
            self.register_buffer(f"mask_hh{suffix}", mask, persistent=False)

    def _drops(self, mask: Tensor | None) -> dict[str, Tensor | None]:
        return {"drop_h" if self.recurrent_dropout_on == "state" else "drop_g": mask}

    def _masks(self, x: Tensor, B: int) -> list[Tensor | None]:
        """The masks of recurrent dropout, `(B, H)` for each layer and direction."""
        if self.recurrent_dropout == 0 or not self.training:
            return [None] * (self.num_layers * self.num_directions)
        sizes = self._output_size if self.recurrent_dropout_on == "state" else self.hidden_sizes.__getitem__
        return [sequence_mask(x, (B, sizes(layer)), self.recurrent_dropout) for layer, *_ in self._tracks()]

    # ---- the call

    @overload
    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: Literal[False] = False,
    ) -> Output: ...

    @overload
    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: Literal[True],
    ) -> OutputWithStates: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
    ) -> Output | OutputWithStates:
        """Run over whole sequences; returns `(y, state)`, or with `return_states` `(y, state, states)`.

        input: `(T, B, I)`, with `batch_first` `(B, T, I)`, one sequence `(T, I)`, or a PackedSequence.
        hx: the state to start from, as returned; default `initial_state`, else zeros or the learned start.
        initial_state: where a reset leads to, in the structure of hx; default zeros or the learned start.
        lengths: integers `(B,)` on any device, zero allowed: a row that has ended keeps its state and gives zeros.
        mask: bool, the layout of the input's time and batch axes; false where a row takes no step: its state is held,
            y is zero there, and nothing of that step reaches a value or a gradient.
        reset: bool, the same layout; true where the state goes back before that step, or before the row's next one
            where the mask leaves that step out.
        states: the structure of the state with a time axis before the batch axis, `(L·D, T, B, H)`; behind it with
        `batch_first`; padded also for a PackedSequence.
        """
        if "parametrizations" not in self._modules or torch.compiler.is_compiling():
            return self._call(input, hx, initial_state, lengths, mask, reset, return_states)
        with cached():  # a layer reads its weights once a call
            return self._call(input, hx, initial_state, lengths, mask, reset, return_states)

    def check(self, input: Tensor | PackedSequence, hx: Any = None) -> Explanations:
        """Verify on this data that the engine runs each layer and direction as the plain loop does; says how it runs.

        Raises EngineError where a step is outside the fast path's rules, with what to write instead.
        """
        found = Explanations()
        self._call(input, hx, scans=self._checked_scans(found))
        return found

    def _call(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        initial_state: Any = None,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
        scans: Sequence[Runner] | None = None,
    ) -> Output | OutputWithStates:
        self._check_input(input)
        batched = isinstance(input, PackedSequence) or input.dim() == 3
        sequences = lay_out(
            input, lengths=lengths, mask=mask, reset=reset, batch_first=self.batch_first, batched=batched,
            holes=mask is not None and input.data.device.type not in VENDOR_DEVICES and self._find_holes(scans),
        )  # fmt: skip
        targets = self._starts(initial_state, sequences, "initial_state")
        starts = targets if hx is None else self._starts(hx, sequences, "hx")
        self._vendor.ran = scans is None and self._for_vendor(sequences, return_states)
        if self._vendor.ran:
            return self._call_vendor(sequences, starts)
        if self.weight_dropout > 0 and self.training:
            self._draw_weight_masks()
        result = self._unfold(
            sequences,
            starts,
            None if reset is None else targets,
            self._masks(sequences.x, sequences.batch),
            return_states=return_states,
            scans=scans,
        )
        y = sequences.outputs_out(result.y)
        state = self._states_out(result.finals, sequences)
        if not return_states:
            return Output(y, state)
        return OutputWithStates(y, state, self._layout.join(sequences.steps_out(result.states)))

    def call_on(self, scans: Sequence[Runner], input: Any, hx: Any = None, **options: Any) -> Any:
        """As for `Stack`."""
        return self._call(input, hx, **options, scans=scans)

    def _lone_state(self) -> tuple[int, ...] | None:
        one = self.num_layers * self.num_directions == 1 and isinstance(self.hidden_size, int)
        return (1,) if one and not self.residual else None

    def _states_out(self, states: list[Any], sequences: Sequences) -> Any:
        return self._layout.join(sequences.rows_out(states))

    def _draws(self) -> bool:
        return (
            super()._draws()
            or self.recurrent_dropout > 0
            or self.weight_dropout > 0
            or self.zoneout is not None
        )

    def _check_input(self, input: Any) -> None:
        name, I = type(self).__name__, self.input_size
        x = input.data if isinstance(input, PackedSequence) else input
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: input is {type(x).__name__}; expected a tensor or a PackedSequence")
        shape = tuple(x.shape)
        if not isinstance(input, PackedSequence) and x.dim() not in (2, 3):
            axes = "(B, T, I)" if self.batch_first else "(T, B, I)"
            raise ValueError(
                f"{name}: input has shape {shape}; expected 3-D {axes}, or 2-D (T, I) for one sequence"
            )
        if x.shape[-1] != I:
            raise RuntimeError(
                f"{name}: input has shape {shape}; its last size must be equal to input_size = {I}"
            )
        dtype = getattr(self, "weight_ih_l0").dtype  # noqa: B009 - made by name
        if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(
                f"{name}: input is {x.dtype} and the weights are {dtype}; convert one: input.to({dtype}) or "
                f"layer.to({x.dtype})"
            )

    # ---- torch's layout of the state

    def _starts_at_zero(self) -> bool:
        return not self.learn_initial_state

    def _starts(self, given: Any, sequences: Sequences, name: str) -> list[Any]:
        """One state for each layer and direction, `(B, H)` or a tuple of these, rows in the engine's order."""
        B, like = sequences.batch, sequences.x
        if given is not None:
            states = self._layout.split(given, B if sequences.batched else None, like, name)
            return [sequences.rows_in(state) for state in states]
        starts = []
        for layer, _, suffix in self._tracks():
            if self.learn_initial_state:
                leaves = [getattr(self, f"initial_{n}{suffix}").expand(B, -1) for n in self.state_names]
            else:
                leaves = [like.new_zeros(B, size) for size in self._state_sizes(layer)]
            starts.append(self._layout.one(leaves))
        return starts

    # ---- torch's kernels

    def _is_stock(self) -> bool:
        """True where torch.nn computes the same."""
        return (
            isinstance(self.hidden_size, int)
            and self.layer_norm is None
            and self.merge == "concat"
            and not self.residual
            and not self.zoneout
            and not (self.training and (self.recurrent_dropout or self.weight_dropout))
            and not (self.training and self.dropout and self.sequence_dropout)
        )

    def _kernel(self) -> Kernel | None:
        """The function of torch that computes this layer with the options as they are, if there is one."""
        raise NotImplementedError

    @property
    def path(self) -> str | None:
        """As for `Stack`; "vendor" where torch's own kernels ran."""
        return "vendor" if self._vendor.ran else super().path

    def explain(self) -> Explanations:
        """Which path ran and why, for each layer and direction."""
        if not self._vendor.ran:
            return super().explain()
        why = f"vendor: {getattr(self._kernel(), '__name__', None)} of torch, which has this layer on this device"
        return Explanations({suffix.removeprefix("_"): why for *_, suffix in self._tracks()})

    def _for_vendor(self, sequences: Sequences, return_states: bool) -> bool:
        return (
            sequences.x.device.type in VENDOR_DEVICES
            and sequences.mask is None
            and self.backend is None
            and self.checkpoint_every is None
            and sequences.reset is None
            and not return_states
            and self._is_stock()
            and self._kernel() is not None
        )

    def _call_vendor(self, sequences: Sequences, starts: list[Any]) -> Output:
        kernel = self._kernel()
        assert kernel is not None
        y, final = run_vendor(
            kernel,
            sequences,
            tuple(torch.stack(column) for column in self._layout.columns(starts)),
            [w for weights in self.all_weights for w in weights],
            bias=self.bias,
            num_layers=self.num_layers,
            dropout=self.dropout if self.training else 0.0,
            bidirectional=self.bidirectional,
        )
        finals = [
            self._layout.one(leaves) for leaves in zip(*(part.unbind(0) for part in final), strict=True)
        ]
        return Output(sequences.outputs_out(y), self._layout.join(sequences.rows_out(finals)))

    # ---- torch's own layer

    def _beyond_torch(self) -> list[str]:
        names = [
            "layer_norm",
            "weight_dropout",
            "recurrent_dropout",
            "zoneout",
            "residual",
            "learn_initial_state",
        ]
        names += ["sequence_dropout"] if self.dropout else []
        beyond = [f"{name}={value!r}" for name in names if (value := getattr(self, name))]
        return beyond + ([f"merge={self.merge!r}"] if self.merge != "concat" else [])

    def _torch_arguments(self) -> dict[str, Any]:
        names = ("bias", "batch_first", "dropout", "bidirectional")
        return {name: getattr(self, name) for name in names}

    # ---- printing

    def extra_repr(self) -> str:
        """The sizes, and what differs from the default."""
        shown = [str(self.input_size), str(self.hidden_size)]
        shown += [f"proj_size={self.proj_size}"] if self.proj_size else []
        shown += [f"num_layers={self.num_layers}"] if self.num_layers != 1 else []
        shown += [] if self.bias else ["bias=False"]
        shown += self._extras_repr()
        options = ("layer_norm", "weight_dropout", "recurrent_dropout", "zoneout", "learn_initial_state")
        shown += [f"{name}={value!r}" for name in options if (value := getattr(self, name))]
        if self.recurrent_dropout and self.recurrent_dropout_on != "state":
            shown.append(f"recurrent_dropout_on={self.recurrent_dropout_on!r}")
        return ", ".join(shown)


let_into_graphs(StockLayer)
