"""Blocks read from torch modules, so that what is drawn is what is trained: every parameter, once.

`blocks_of` takes the modules of a network in the order in which the data pass through them. It knows the layers of
torch.nn and of elman.nn by their attributes, and draws any other module with its name, sizes and parameters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from elman.plots import blocks
from elman.plots.blocks import CELLS, DIRECTIONS, Layer, Merge, indexed, spoken
from elman.plots.drawing import Block, Direction, State, Weight
from elman.plots.looking import looking
from elman.plots.tagger import tagger_block

__all__ = ["blocks_of", "dtype_of"]

# The class of a layer or a cell: its entry in `CELLS`.
KINDS = {
    "LSTM": "lstm",
    "LSTMCell": "lstm",
    "CoupledLSTMCell": "lstm",
    "LayerNormLSTMCell": "lstm",
    "PeepholeLSTMCell": "lstm",
    "ProjectedLSTMCell": "lstm",
    "GRU": "gru",
    "GRUCell": "gru",
    "LayerNormGRUCell": "gru",
    "OriginalGRUCell": "gru, reset before",
    "RNN": "rnn",
    "RNNCell": "rnn",
    "ElmanCell": "rnn",
    "MinimalGatedCell": "mgu",
}
ONE_MASK = "one mask a sequence"
ATTENTION = {"project.weight": ("A",), "project.bias": ("b", "a"), "query.weight": ("v",)}
POOLED = {
    "last": "the last output of each direction",
    "mean": "mean of x_t over the steps",
    "max": "largest x_t of the steps",
    "attention": "∑ w_t x_t, w = softmax(v tanh(A x_t + b_a))",
}
Parameters = Mapping[str, Tensor]


def blocks_of(
    modules: Iterable[nn.Module], *, activation: str = "", letter: str = "K", mark: str = ""
) -> tuple[Block, ...]:
    """The blocks of a chain of modules, from the input upwards.

    `nn.Identity` and dropout of probability 0 are left out; `nn.Sequential`, and the networks and inputs of elman.nn,
    give their parts; an elementwise activation after a dense layer becomes a part of it. A tensor that an earlier
    module has too is shown as tied to it.

    Args:
        modules: in the order of the data; a module without parameters may come more than once.
        activation: what follows the last dense layer, where the loss contains it ("softmax").
        letter: the letter of the last dense layer's width.
        mark: stands below the names of all weights, such as "enc" where a decoder has weights of its own.
    """
    modules = list(modules)
    reader = _Reader(list(_flat(modules)), mark)
    found: list[Block] = []
    for module in reader.modules:
        found += reader.blocks(module, found)
    every = (pair for module in modules for pair in module.named_parameters())
    left = {name: p for name, p in every if id(p) not in reader.seen}
    if left:
        found[-1] = reader.listed(found[-1], {indexed(spoken(name), mark): p for name, p in left.items()})
    dense = [place for place, block in enumerate(found) if block.kind == "dense"]
    if dense:
        last = found[dense[-1]]
        named = last if not activation else _activated(last, activation)
        found[dense[-1]] = replace(named, letter=letter)
    return tuple(found)


def dtype_of(module: nn.Module) -> str:
    """The name of the type of a module's parameters, as `ModelDrawing` takes it."""
    first = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return str(first).removeprefix("torch.")


# The modules of elman.nn that are made of others, and how the data pass through these.
PARTS = {
    "Network": (
        *("embedding", "recurrent", "pooling", "norm", "dropout"),
        *("dense", "nonlinearity", "dropout", "head", "chain"),
    ),
    "Features": ("norm", "dense", "dropout"),
}


def _flat(modules: Iterable[nn.Module | Any]) -> Iterator[nn.Module | str]:
    """The modules one by one; an activation that is no module by its name, and only behind a dense layer."""
    for module in modules:
        parts = next((names for name, names in PARTS.items() if _is_of(module, name)), None)
        if isinstance(module, nn.Sequential):
            yield from _flat(module)
        elif _is_of(module, "Embedding") or _is_of(module, "SpelledWords"):
            yield from (module, *_flat([getattr(module, "norm", nn.Identity()), module.dropout]))
        elif parts:
            yield from _flat(_passed(module, parts))
        elif not isinstance(module, nn.Module):
            yield _spoken(module)
        elif not isinstance(module, nn.Identity):
            yield module


def _passed(module: nn.Module, parts: Sequence[str]) -> list[Any]:
    """What a module's data pass through; without a dense layer neither its activation nor a second dropout."""
    found: list[Any] = []
    dense = getattr(module, "dense", None)
    for name in parts:
        part = getattr(module, name, None)
        if part is None or (dense is None and (name == "nonlinearity" or any(part is old for old in found))):
            continue
        found.append(part)
    return found


def _is_of(module: object, name: str) -> bool:
    """Whether a module's class is, or comes from, one of elman.nn called so; this floor does not know `elman.nn`."""
    return any(c.__name__ == name and c.__module__.startswith("elman.nn.") for c in type(module).__mro__)


def _kind(module: nn.Module) -> str | None:
    """The entry in `CELLS` of a layer or cell of torch.nn or elman.nn."""
    for c in type(module).__mro__:
        if c.__module__.startswith(("torch.nn.modules", "elman.nn")) and c.__name__ in KINDS:
            before = KINDS[c.__name__] == "gru" and getattr(module, "reset_after", True) is False
            return "gru, reset before" if before else KINDS[c.__name__]
    return None


def _joined(before: list[Block], block: Block) -> list[Block]:
    """What stands between a block and a dense one that reads the embedding too, beside what comes from below."""
    size = before[-1].output_size if before else block.input_size
    if block.kind != "dense" or block.input_size == size:
        return []
    table = next(
        (b for b in before if b.kind == "embedding" and b.output_size == block.input_size - size), None
    )
    if table is None:
        return []
    return [Block("with e_t", "other", size, block.input_size, "F", equations=("y_t = [x_t ; e_t]",))]


def _activated(block: Block, activation: str) -> Block:
    total = block.equations[0].removeprefix("y_t = ")
    equations = (f"y_t = {activation}({total})", *block.equations[1:])
    return replace(block, name=f"dense, {activation}", equations=equations)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """All parameters below a module, one under two names twice."""
    return dict(module.named_parameters(remove_duplicate=False))


@dataclass
class _Track:
    """One direction of one recurrent layer: what computes it, its parameters, and its learned start."""

    direction: Direction
    cell: nn.Module
    parameters: dict[str, Tensor]


@dataclass
class _Reader:
    """What has been seen so far of a chain: which parameter has which name, how many blocks there are of a kind."""

    modules: list[nn.Module | str]
    mark: str
    seen: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    layers: int = 0

    def blocks(self, module: nn.Module | str, before: list[Block]) -> list[Block]:
        """The blocks of one module; `before`: those below it, of which the last one may get an activation."""
        size = before[-1].output_size if before else self.entry()
        if isinstance(module, str):
            before[-1] = _activated(before[-1], module)
            return []
        if isinstance(module, nn.modules.dropout._DropoutNd) or _is_of(module, "SequenceDropout"):
            masks = "" if isinstance(module, nn.Dropout) else ONE_MASK
            rate: Any = module.p
            return [blocks.dropout(size, float(rate), note=masks)] if rate else []
        if _is_of(module, "Stack") or isinstance(module, nn.RNNBase):
            return self.recurrent(module)
        if _is_of(module, "Pooling"):
            return [self.pooling(module, size)]
        if _is_of(module, "Bridge"):
            return self.bridge(module, before)
        plain = self.plain(module, size)
        if plain is not None:
            return [*_joined(before, plain), plain]
        if not any(True for _ in module.parameters()) and before and before[-1].kind == "dense":
            before[-1] = _activated(before[-1], spoken(type(module).__name__.lower()))
            return []
        return [self.other(module, size)]

    def entry(self) -> int:
        """The width of what enters, as far as the first module that says so knows it."""
        for module in self.modules:
            if isinstance(module, nn.LayerNorm):
                return module.normalized_shape[-1]
            keys = ("num_features", "in_features", "input_size")
            sizes = [n for key in keys if isinstance(n := getattr(module, key, None), int)]
            if _is_of(module, "Stack") or sizes:
                return sizes[0] if sizes else _input_size(module, _layers(module)[0][0].cell)
        return 1

    def plain(self, module: nn.Module, size: int) -> Block | None:
        """An embedding, a norm or a dense layer; None for anything else, and where its parameters are not its own."""
        own = dict(module.named_parameters(recurse=False))
        table = isinstance(module, nn.Embedding) or _is_of(module, "Embedding")
        if not table and any("." in name for name in _own(module)):
            return None
        if table:
            block = self.table(own["weight"], own.get("subwords"), getattr(module, "word_dropout", None))
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            block = self.norm(module, size, own)
        elif isinstance(module, nn.Linear):
            bias, place = module.bias is not None, self.place(nn.Linear)
            block = blocks.dense(
                module.in_features, module.out_features, letter="F", activation="", bias=bias, mark=place
            )
        else:
            return None
        return self.tied(
            block, {weight.name: [p] for weight, p in zip(block.weights, own.values(), strict=True)}
        )

    def table(self, weight: Tensor, subwords: Tensor | None, words: Any) -> Block:
        """An embedding with its subwords, if it has any; words: the dropout of whole tokens in front of it."""
        shared = 0 if subwords is None else len(subwords)
        block = blocks.embedding(*weight.shape, mark=self.place(nn.Embedding), subwords=shared)
        lost = (
            [f"in training, {100 * words.p:.3g} % of the tokens become unknown"] if words and words.p else []
        )
        frozen = [] if weight.requires_grad else ["not trained"]
        return replace(block, remarks=(*lost, *frozen))

    def pooling(self, module: Any, size: int) -> Block:
        """One vector for all steps."""
        name = f"pooling: {' and '.join(module.kinds)}"
        equations = tuple(POOLED[kind] for kind in module.kinds)
        letter = "" if module.output_size == size else "F"
        kind: Any = "attention" if "attention" in module.kinds else "other"
        gathers = module.kinds != ("last",) or module.ends != "last"
        block = Block(name, kind, size, module.output_size, letter, equations=equations, gathers=gathers)
        own = {key.removeprefix("attention."): p for key, p in _own(module).items()}
        named = {indexed(*ATTENTION.get(key, (spoken(key),)), self.mark): p for key, p in own.items()}
        return self.listed(block, named)

    def bridge(self, module: Any, before: list[Block]) -> list[Block]:
        """What makes the start of a decoder: a part of the encoder's last block, or of its own behind a vector."""
        act = "tanh" if module.bounded else ""
        what = ("[" + " ; ".join(state.name for state in before[-1].states) + "]") if before else "v"
        what = "mean(m_1 … m_S)" if _is_of(module, "MeanBridge") else what
        total = f"W_s {what} + b_s"
        equation = f"s_0 = {act}({total})" if act else f"s_0 = {total}"
        weights = {
            indexed("W", "s", self.mark): module.dense.weight,
            indexed("b", "s", self.mark): module.dense.bias,
        }
        if before:
            last = before[-1]
            before[-1] = self.listed(replace(last, equations=(*last.equations, equation)), weights)
            return []
        sizes = module.dense.in_features, module.dense.out_features
        return [
            self.listed(
                Block(f"dense, {act}" if act else "dense", "dense", *sizes, "S", equations=(equation,)),
                weights,
            )
        ]

    def norm(self, module: nn.LayerNorm | nn.BatchNorm1d, size: int, own: Parameters) -> Block:
        """Layer norm, or batch norm on features, with as many parameters as it has."""
        block = blocks.layer_norm(size, mark=self.place(nn.LayerNorm))
        by_row = isinstance(module, nn.LayerNorm)
        equation = f"y_t = {'γ ⊙ ' if own else ''}(x_t − mean) / std" + (" + β" if len(own) == 2 else "")
        return replace(
            block,
            name="layer norm" if by_row else "batch norm",
            weights=block.weights[: len(own)],
            equations=(equation,),
            remarks=()
            if by_row
            else ("mean and std: in training those of the batch, then their running means",),
        )

    def place(self, kind: type[nn.Module]) -> str:
        """What stands below the weights' names of a block: its number among several of its kind, and the mark."""
        kinds = (nn.LayerNorm, nn.BatchNorm1d) if kind is nn.LayerNorm else (kind,)
        self.counts[kind.__name__] += 1
        several = (
            sum(
                isinstance(m, kinds) or (kind is nn.Embedding and _is_of(m, "Embedding"))
                for m in self.modules
            )
            > 1
        )
        return ",".join(filter(None, [str(self.counts[kind.__name__]) if several else "", self.mark]))

    def tied(self, block: Block, tensors: Mapping[str, list[Tensor]]) -> Block:
        """The block, each of its weights counted only for those of its `tensors` that are new here."""
        weights = []
        for weight in block.weights:
            old = [self.seen[id(p)] for p in tensors[weight.name] if id(p) in self.seen]
            for p in tensors[weight.name]:
                self.seen.setdefault(id(p), weight.name)
            new = weight.copies - len(old)
            weights.append(replace(weight, copies=new) if new else replace(weight, copies=1, tied_to=old[0]))
        return replace(block, weights=tuple(weights))

    def other(self, module: nn.Module, size: int) -> Block:
        """A part of a tagger, or a module of which nothing is known but its parameters."""
        known = tagger_block(module)
        if known is not None:
            return self.listed(*known)
        name = type(module).__name__
        sizes = [
            next((n for key in keys if isinstance(n := getattr(module, key, None), int)), None)
            for keys in (("input_size", "in_features"), ("output_size", "out_features", "hidden_size"))
        ]
        given = size or sizes[0] or 1
        self.counts["other"] += 1
        kind: Any = "attention" if "attention" in name.lower() else "other"
        block = Block(name, kind, given, sizes[1] or given, "" if sizes[1] in {None, given} else "F")
        index = [str(self.counts["other"]), self.mark] if self.mark or self.counts["other"] > 1 else []
        return self.listed(block, {indexed(spoken(key), *index): p for key, p in _own(module).items()})

    def listed(self, block: Block, named: Parameters, direction: Direction = "forward") -> Block:
        """The block with further weights, by names of their own."""
        weights = tuple(
            Weight(name, tuple(p.shape), "scale", direction=direction) for name, p in named.items()
        )
        more = self.tied(replace(block, weights=weights), {name: [p] for name, p in named.items()})
        return replace(block, weights=block.weights + more.weights)

    # Recurrent layers

    def recurrent(self, module: Any) -> list[Block]:
        """The layers of a stack, of torch.nn or elman.nn."""
        layers = _layers(module)
        found: list[Block] = []
        size = _input_size(module, layers[0][0].cell)
        for tracks in layers:
            self.layers += 1
            number = str(self.layers) if self.several() else ""
            found.append(self.layer(module, tracks, size, number, len(found)))
            size = found[-1].output_size
        left = {
            indexed(spoken(name), self.mark): p for name, p in _own(module).items() if id(p) not in self.seen
        }
        found[0] = self.listed(found[0], left)
        masks = ONE_MASK if getattr(module, "sequence_dropout", False) else ""
        residual = bool(getattr(module, "residual", False))
        return list(blocks.stacked(found, residual=residual, between=module.dropout, masks=masks))

    def several(self) -> bool:
        """Whether the chain has more than one recurrent layer."""
        return sum(getattr(module, "num_layers", 0) for module in self.modules) > 1

    def layer(self, module: Any, tracks: list[_Track], size: int, number: str, place: int) -> Block:
        """One layer."""
        cell: Any = tracks[0].cell
        kind = _kind(cell)
        merge: Merge = getattr(module, "merge", "concat")
        remarks = _remarks(module, tracks)
        if kind is None:
            own = self.own_cell(tracks, size, number, merge, remarks, differ=_widths_differ(module))
            return looking(own, cell, _kind(cell.cell)) if _is_of(cell, "AttentionCell") else own
        hidden = cell.hidden_sizes[place] if hasattr(cell, "hidden_sizes") else cell.hidden_size
        projection = _projection(cell)
        act = getattr(cell, "nonlinearity", "tanh")
        spec = Layer(CELLS[kind], size, hidden, projection, number, _spoken(act), remarks, self.mark)
        letter = ("P" if projection else "H") + (f"_{number}" if _widths_differ(module) else "")
        shapes = {t.direction: {name: tuple(p.shape) for name, p in t.parameters.items()} for t in tracks}
        block = spec.block(letter, merge, shapes)
        if getattr(cell, "weight_ho", None) is not None:
            width = cell.output_size * (block.output_size // hidden)
            block = replace(block, output_size=width, equations=(*block.equations, _output(cell)))
        tensors: dict[str, list[Tensor]] = {}
        for t in tracks:
            for name, p in t.parameters.items():
                tensors.setdefault(spec.label(name, t.direction, shapes[t.direction]), []).append(p)
        return self.tied(block, tensors)

    def own_cell(
        self,
        tracks: list[_Track],
        size: int,
        number: str,
        merge: Merge,
        remarks: tuple[str, ...],
        *,
        differ: bool,
    ) -> Block:
        """A layer of a cell that anyone may have written."""
        cell: Any = tracks[0].cell
        name = type(cell).__name__
        states = [state for t in tracks for state in _states(t)]
        width = _own_width(cell) or states[0].size
        doubled = len(tracks) > 1 and merge == "concat"
        at = "t−1" if tracks[0].direction == "forward" else "t+1"
        first = [state.name for state in states if state.direction == tracks[0].direction]
        carried = ", ".join(f"{state}_t" for state in first)
        before = ", ".join(f"{state}_{{{at}}}" for state in first)
        joined = f"y_t = {blocks.MERGES[merge].format(first[0])}" if len(tracks) > 1 else ""
        equations = (f"y_t; {carried} = cell(x_t; {before})", joined)
        block = Block(
            f"{name}{' layer ' + number if number else ''}",
            "recurrent",
            size,
            width * (1 + doubled),
            ("2H" if doubled else "H") + (f"_{number}" if differ else ""),
            states=tuple(states),
            equations=tuple(line for line in equations if line),
            remarks=remarks,
        )
        for t in tracks:
            prime = "′" if t.direction == "backward" else ""
            named = {indexed(spoken(key) + prime, number, self.mark): p for key, p in t.parameters.items()}
            block = self.listed(block, named, t.direction)
        return block


def _layers(module: Any) -> list[list[_Track]]:
    """The tracks of each layer of a stack."""
    ways = DIRECTIONS[: 1 + bool(module.bidirectional)]
    if getattr(module, "reverse", False):
        ways = DIRECTIONS[::-1][: 1 + bool(module.bidirectional)]
    own, layers = _own(module), []
    for layer in range(module.num_layers):
        tracks = []
        for place, way in enumerate(ways):
            end = f"_l{layer}" + ("_reverse" if place else "")
            found = {name.removesuffix(end): p for name, p in own.items() if _ends(name, end)}
            cell = module
            if hasattr(module, "cells"):
                cell = module.cells[layer * len(ways) + place]
                found = {**_own(cell), **found}
            tracks.append(_Track(way, cell, found))
        layers.append(tracks)
    return layers


def _ends(name: str, end: str) -> bool:
    return "." not in name and name.endswith(end)


def _input_size(module: Any, cell: Any) -> int:
    """The width that a stack takes, as far as it or its cell says."""
    sizes = (getattr(owner, "input_size", None) for owner in (module, cell))
    return next((size for size in sizes if isinstance(size, int)), 0) or 1


def _own_width(cell: Any) -> int:
    return next(
        (n for key in ("output_size", "hidden_size") if isinstance(n := getattr(cell, key, None), int)), 0
    )


def _projection(cell: Any) -> int:
    """The width of a projected h; 0 where it is not projected."""
    weight = getattr(cell, "weight_hr", getattr(cell, "weight_hr_l0", None))
    return 0 if weight is None else int(weight.shape[0])


def _widths_differ(module: Any) -> bool:
    cells = getattr(module, "cells", ())
    return len({_own_width(cell) for cell in cells} or set(getattr(module, "hidden_sizes", ()))) > 1


def _states(track: _Track) -> list[State]:
    """Names and sizes of the state of a cell, from the start that it makes itself, else one of its width."""
    cell: Any = track.cell
    prime = "′" if track.direction == "backward" else ""
    if getattr(cell, "looks_back", False):
        cell = cell.cell  # the weights of the step before are as many as the memory has steps
    make = getattr(cell, "initial_state", None)
    start = make(1, "cpu", torch.float32) if callable(make) else torch.zeros(1, _own_width(cell) or 1)
    leaves = [leaf for leaf in pytree.tree_leaves(start) if isinstance(leaf, Tensor)]
    names = getattr(start, "_fields", None) or getattr(cell, "state_names", None)
    if isinstance(start, dict):
        names = tuple(start)
    if names is None or len(names) != len(leaves):
        names = ["h"] if len(leaves) == 1 else [f"s{place}" for place in range(1, len(leaves) + 1)]
    return [
        State(spoken(name) + prime, leaf[0].numel(), track.direction)
        for name, leaf in zip(names, leaves, strict=True)
    ]


def _output(cell: Any) -> str:
    """The output layer that Elman's cell may have."""
    total = "V_s s_t" if cell.bias_ho is None else "V_s s_t + b_s"
    act = _spoken(cell.output_nonlinearity)
    return f"y_t = {total}" if act == "identity" else f"y_t = {act}({total})"


def _spoken(activation: Any) -> str:
    """The name of an activation that is a word or a callable."""
    name = (
        activation
        if isinstance(activation, str)
        else getattr(activation, "__name__", type(activation).__name__)
    )
    return spoken(name)


def _remarks(module: Any, tracks: list[_Track]) -> tuple[str, ...]:
    """What a layer does beside its equations."""
    first = _kind(tracks[0].cell)
    h = CELLS[first].states[0] if first else "h"
    rate, weights = getattr(module, "recurrent_dropout", 0.0), getattr(module, "weight_dropout", 0.0)
    on = f"{h}_{{t−1}}" if getattr(module, "recurrent_dropout_on", "state") == "state" else "the candidate"
    before = tracks[0].direction == "backward"
    lines = [
        "from the last step to the first: t+1 stands for t−1" if before else "",
        f"in training, {100 * rate:.3g} % of {on} become 0; {ONE_MASK}" if rate else "",
        f"in training, {100 * weights:.3g} % of W become 0; one mask a call" if weights else "",
        _zoneout(getattr(module, "zoneout", None)),
    ]
    return tuple(line for line in lines if line)


def _zoneout(rates: Any) -> str:
    if not rates:
        return ""
    if isinstance(rates, Mapping):
        parts = ", ".join(
            f"{rate:g} of {re.sub('_', ' ', str(name))}" for name, rate in rates.items() if rate
        )
        return f"zoneout {parts}" if parts else ""
    return f"zoneout {rates:g}: a unit keeps its value for a step"
