"""The frozen file while it is put together: arrays, states and contexts by number, tensors by name, stages in order.

A file is safetensors. Metadata: `elman.frozen`, the form ("1"; "2" where matrices are in eight bits); `checksum`,
the CRC-32 of all bytes of the file with zeros for the digits of the sum itself; and `model`, JSON:

    type      "float32" or "float64", of all numbers but tokens
    texts     words and JSON by key: task, made by, tokenizer, labels, ...
    arrays    what stages read and make: name, shape of one row, type; per_sequence where it is one for each sequence
    states    name, shape, type; initial: the tensor that a row begins with (without it: zeros)
    contexts  name, shape, type; those that are not given are made by a stage
    inputs, outputs, given_contexts    numbers of arrays and contexts
    eight_bits   of a file of form 2: matrices by name, int8, each with `scales` (a tensor, in whose type the numbers
                 are) for each of its rows (axis 0) or columns (axis 1)
    stages    in order, each of a kind:
        kernel   a step of the engine: in, out, states, contexts, reverse, of_context; registers, code,
                 commits, constants, vectors, weights (see `elman._core`; operations by name), and the Program's text
        look_up  rows of `table` by the numbers of `in`       convert  numbers of `in` as floats
        affixes  of the letters of a word, `in`: the sum of rows of `table` (see elman.nn.Affixes); longest
        spell    the answer of `model`, which has these same keys, to the numbers of each row of `in` as a sequence
        pool     over the steps: over = last, first, mean, max, attention (by the softmax of `scores`)
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import elman
from elman.engine import FrozenCode, FrozenStep
from elman.frozen.int8 import packed

__all__ = ["FORM", "Draft"]

FORM, WITH_EIGHT_BITS = "1", "2"
LINE = 64
_TYPES = {torch.float32: "float32", torch.float64: "float64", torch.int64: "int64"}
_STORED = {"float32": "F32", "float64": "F64", "int64": "I64", "int8": "I8"}
Shape = Sequence[int]


class Draft:
    """Puts a frozen file together. dtype: of all numbers but tokens. name: of a part of another draft."""

    def __init__(self, dtype: torch.dtype, name: str = "") -> None:
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"a model of {dtype} cannot be frozen; expected torch.float32 or torch.float64")
        self.dtype, self._name = dtype, name
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.texts: dict[str, str] = {"made by": f"elman {elman.__version__}"}
        self._arrays: list[dict[str, Any]] = []
        self._states: list[dict[str, Any]] = []
        self._contexts: list[dict[str, Any]] = []
        self._given: list[int] = []
        self._stages: list[dict[str, Any]] = []
        self._tensors: dict[str, npt.NDArray[Any]] = {}
        self._known: dict[tuple[Any, ...], str] = {}
        self._matrices: dict[
            str, int
        ] = {}  # weights of products and tables, with the axis that is their output

    # ---- numbers and names

    def array(self, name: str, shape: Shape, dtype: torch.dtype | None = None, *, whole: bool = False) -> int:
        """A new array; whole: one row for each sequence."""
        entry = self._entry(name, shape, dtype)
        self._arrays.append(entry | ({"per_sequence": True} if whole else {}))
        return len(self._arrays) - 1

    def shape(self, array: int) -> tuple[int, ...]:
        """The shape of one row of an array."""
        return tuple(self._arrays[array]["shape"])

    def context(self, name: str, shape: Shape, *, given: bool = True) -> int:
        """A new context."""
        self._contexts.append(self._entry(name, shape))
        if given:
            self._given.append(len(self._contexts) - 1)
        return len(self._contexts) - 1

    def state(self, name: str, start: Tensor) -> int:
        """A new state, which begins as `start`, one row."""
        entry = self._entry(name, start.shape)
        if bool((start != 0).any()) or bool(torch.signbit(start).any()):
            entry["initial"] = self.tensor(f"{name}.initial", start)
        self._states.append(entry)
        return len(self._states) - 1

    def _entry(self, name: str, shape: Shape, dtype: torch.dtype | None = None) -> dict[str, Any]:
        return {"name": name, "shape": [int(n) for n in shape], "type": _TYPES[dtype or self.dtype]}

    def tensor(self, name: str, values: Tensor | npt.NDArray[Any]) -> str:
        """The name under which these numbers stand in the file: equal ones stand there once."""
        found = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        found = np.ascontiguousarray(found)
        key = (found.dtype.str, found.shape, found.tobytes())
        if key not in self._known:
            self._known[key] = f"{self._name}{name}"
            self._tensors[self._known[key]] = found
        return self._known[key]

    def _matrix(self, name: str, values: Tensor, axis: int) -> str:
        found = self.tensor(name, values)
        self._matrices.setdefault(found, axis)
        return found

    # ---- stages

    def look_up(self, array: int, name: str, table: Tensor) -> int:
        """Rows of a table; gives the array that they are."""
        out = self.array(name, table.shape[1:])
        self._stages.append(
            {"kind": "look_up", "in": array, "out": out, "table": self._matrix(f"{name}.table", table, 0)}
        )
        return out

    def affixes(self, array: int, name: str, table: Tensor, longest: int) -> int:
        """Of the letters of words, 0 behind their ends, what `elman.nn.Affixes` gives; gives the array."""
        out = self.array(name, table.shape[1:])
        self._stages.append(
            {
                "kind": "affixes",
                "in": array,
                "out": out,
                "table": self._matrix(f"{name}.table", table, 0),
                "longest": longest,
            }
        )
        return out

    def part(self, name: str) -> Draft:
        """An empty draft, for `spell`: its tensors stand in the same file."""
        part = Draft(self.dtype, f"{self._name}{name}.")
        part.texts = {}
        part._tensors, part._known, part._matrices = self._tensors, self._known, self._matrices
        return part

    def spell(self, array: int, name: str, part: Draft) -> int:
        """The one answer of a part to the numbers above 0 of each row, one behind the other; gives the array."""
        out = self.array(name, part.shape(part.outputs[0]))
        self._stages.append({"kind": "spell", "in": array, "out": out, "model": part._model()})
        return out

    def pool(self, over: str, array: int, name: str, scores: int | None = None) -> int:
        """One row for each sequence; gives the array."""
        out = self.array(name, self.shape(array), whole=True)
        stage = {"kind": "pool", "over": over, "in": array, "out": out}
        self._stages.append(stage if scores is None else stage | {"scores": scores})
        return out

    def step(
        self, name: str, step: FrozenStep, inputs: Sequence[int], starts: Sequence[Tensor] = (),
        contexts: Sequence[int] = (), *, state_names: Sequence[str] = (), reverse: bool = False, whole: bool = False,
    ) -> list[int]:  # fmt: skip
        """A step of the engine on arrays; gives its outputs, one for each leaf of y.

        starts: one row of each state; none: the step has no state. contexts: one for each leaf of its context.
        """
        outs = [
            self.array(_numbered(f"{name}.y", i, step.y), shape, whole=whole)
            for i, shape in enumerate(step.y)
        ]
        states = [self.state(n, start) for n, start in zip(state_names, starts, strict=True)]
        known = list(contexts)
        if step.context_code is not None:
            made = [self.context(f"{name}.context{i}", s, given=False) for i, s in enumerate(step.made)]
            known += made
            self._kernel(
                f"{name}.context",
                step.context_code,
                [contexts[i] for i in step.context_ins],
                made,
                of_context=True,
            )
        self._kernel(
            name, step.code, [inputs[i] for i in step.ins], [outs[i] for i in step.outs], states=states,
            contexts=[known[i] for i in step.contexts], reverse=reverse, program=step.text,
        )  # fmt: skip
        return outs

    def _kernel(
        self, name: str, code: FrozenCode, ins: Sequence[int], outs: Sequence[int], *, states: Sequence[int] = (),
        contexts: Sequence[int] = (), reverse: bool = False, of_context: bool = False, program: str = "",
    ) -> None:  # fmt: skip
        weights = [
            {"tensor": self._matrix(f"{name}.weight{i}", w, 0 if turned else 1), "transposed": turned}
            for i, (w, turned) in enumerate(code.weights)
        ]
        vectors = [self.tensor(f"{name}.vector{i}", v.reshape(-1)) for i, v in enumerate(code.vectors)]
        constants = self.tensor(f"{name}.constants", np.array(code.constants, dtype=np.float64))
        stage = {
            "kind": "kernel", "name": name, "in": list(ins), "out": list(outs), "states": list(states),
            "contexts": list(contexts), "reverse": reverse, "of_context": of_context, "registers": code.registers,
            "code": code.code, "commits": code.commits, "constants": constants, "vectors": vectors,
            "weights": weights,
        }  # fmt: skip
        self._stages.append(stage | ({"program": program} if program else {}))

    # ---- the file

    def _model(self) -> dict[str, Any]:
        return {
            "type": _TYPES[self.dtype], "texts": self.texts, "arrays": self._arrays, "states": self._states,
            "contexts": self._contexts, "inputs": self.inputs, "outputs": self.outputs,
            "given_contexts": self._given, "stages": self._stages,
        }  # fmt: skip

    def to_bytes(self, *, int8: bool = False) -> bytes:
        """The whole file; equal drafts give equal bytes. int8: matrices that `elman.frozen.int8` rounded are kept so;
        ValueError where there are none."""
        tensors, model = self._tensors, self._model()
        if int8:
            tensors, model["eight_bits"] = self._in_eight_bits()
        form = WITH_EIGHT_BITS if int8 else FORM
        metadata = {"elman.frozen": form, "checksum": f"crc32:{'0' * 8}", "model": _json(model)}
        ordered = sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
        header: dict[str, Any] = {"__metadata__": metadata}
        at = 0
        for name, values in ordered:
            kind = _STORED[values.dtype.name]
            header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
            at += values.nbytes
        text = _json(header).encode()
        text += b" " * (-(len(text) + 8) % LINE)  # the tensors begin at a line of the cache
        whole = b"".join(
            [len(text).to_bytes(8, "little"), text, *(values.tobytes() for _, values in ordered)]
        )
        return _with_sum(whole)

    def _in_eight_bits(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        tensors, told = dict(self._tensors), {}
        for name, axis in self._matrices.items():
            found = packed(tensors[name], axis)
            if found is not None:
                tensors[name], tensors[f"{name}.scales"] = found.numbers, found.scales
                told[name] = {"scales": f"{name}.scales", "axis": axis}
        if not told:
            raise ValueError("the model has no weights of products in eight bits")
        return tensors, told


def _with_sum(whole: bytes) -> bytes:
    place = whole.index(b'"checksum":"crc32:') + len(b'"checksum":"crc32:')
    return whole[:place] + f"{zlib.crc32(whole):08x}".encode() + whole[place + 8 :]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _numbered(name: str, i: int, of: Sequence[Any]) -> str:
    return name if len(of) == 1 else f"{name}{i}"
