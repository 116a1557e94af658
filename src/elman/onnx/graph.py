"""Writing ONNX nodes: a scope takes operations one after the other and gives the values that they make.

The scope of a loop's body reads the values of the scope around it by themselves, as ONNX lets a subgraph do.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor

from elman.engine.errors import EngineError
from elman.engine.program.program import Rows, Size, Value

__all__ = ["DTYPES", "OPSET", "Handle", "Refused", "Scope", "array_of", "tensor_type"]

OPSET = 18  # the first with axes as inputs of all reductions, and with BitwiseAnd and its kin
Handle = ir.Value

DTYPES: dict[torch.dtype, ir.DataType] = {
    torch.float32: ir.DataType.FLOAT,
    torch.float64: ir.DataType.DOUBLE,
    torch.float16: ir.DataType.FLOAT16,
    torch.bfloat16: ir.DataType.BFLOAT16,
    torch.int64: ir.DataType.INT64,
    torch.int32: ir.DataType.INT32,
    torch.int16: ir.DataType.INT16,
    torch.int8: ir.DataType.INT8,
    torch.uint8: ir.DataType.UINT8,
    torch.bool: ir.DataType.BOOL,
}


class Refused(EngineError):  # noqa: N818 - as EngineError it names what, not that
    """What cannot be said in ONNX, and why."""


def tensor_type(dtype: torch.dtype) -> ir.TensorType:
    """The ONNX type of tensors of this dtype."""
    if dtype not in DTYPES:
        raise Refused(f"ONNX's operations know no {str(dtype).removeprefix('torch.')}")
    return ir.TensorType(DTYPES[dtype])


def array_of(t: Tensor) -> Any:
    """The numbers of a tensor as ONNX takes them."""
    t = t.detach().cpu().contiguous()
    if t.dtype == torch.bfloat16:
        return ir.tensor(t.float().numpy(), dtype=DTYPES[t.dtype])
    return ir.tensor(t.numpy())


class Scope:
    """A list of nodes under way. `rows`: the number of rows at hand, int64 `(1,)`, where sizes depend on it.

    prefix: stands before the name of each value, so that no two scopes of a file share one.
    """

    def __init__(self, prefix: str = "", *, rows: Handle | None = None) -> None:
        self.nodes: list[ir.Node] = []
        self.rows = rows
        self.values: dict[str, Handle] = {}  # those of the program, by name
        self._prefix = prefix
        self._names = itertools.count()
        self._constants: dict[tuple[Any, ...], Handle] = {}

    def name(self) -> str:
        """A name that no other value has."""
        return f"{self._prefix}{next(self._names)}"

    def op(self, kind: str, *inputs: Handle | None, **attributes: Any) -> Handle:
        """One operation of ONNX with one output."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(
        self, kind: str, inputs: Sequence[Handle | None], outputs: int, **attributes: Any
    ) -> list[Handle]:
        """One operation of ONNX."""
        outs = [ir.Value(name=self.name()) for _ in range(outputs)]
        self.nodes.append(
            ir.Node(
                "",
                kind,
                list(inputs),
                ir.convenience.convert_attributes(attributes),
                outputs=outs,
                name=f"n{outs[0].name}",
            )
        )
        return outs

    def constant(
        self, numbers: Any, dtype: torch.dtype = torch.int64, *, shape: Sequence[int] | None = None
    ) -> Handle:
        """Numbers that stand in the file. A number gives a tensor without axes."""
        t = torch.as_tensor(numbers, dtype=dtype) if not isinstance(numbers, Tensor) else numbers.to(dtype)
        t = t.detach().contiguous() if shape is None else t.detach().reshape(tuple(shape)).contiguous()
        key = (dtype, tuple(t.shape), t.view(torch.uint8).numpy().tobytes() if t.dim() else repr(t.item()))
        if key not in self._constants:
            self._constants[key] = self.op("Constant", value=array_of(t))
        return self._constants[key]

    # ---- what the operations of a program need

    def get(self, v: Value) -> Handle:
        """The value of the file for a value of the program."""
        return self.values[v.name]

    def size(self, shape: Sequence[Size]) -> Handle:
        """A shape as a tensor; computed where it has rows."""
        if not any(isinstance(n, Rows) for n in shape):
            return self.constant(list(shape), shape=(len(shape),))
        assert self.rows is not None
        parts = []
        for n in shape:
            if not isinstance(n, Rows):
                parts.append(self.constant([n]))
            else:
                parts.append(
                    self.rows if n.factor == 1 else self.op("Mul", self.rows, self.constant([n.factor]))
                )
        return self.op("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]

    def reshape(self, v: Handle, shape: Sequence[Size]) -> Handle:
        """The same elements in this shape; a size in rows is what is left."""
        return self.op(
            "Reshape",
            v,
            self.constant([-1 if isinstance(n, Rows) else n for n in shape], shape=(len(shape),)),
        )

    def cast(self, v: Handle, dtype: torch.dtype) -> Handle:
        """The same numbers in another type."""
        return self.op("Cast", v, to=int(tensor_type(dtype).dtype))

    def where(self, condition: Handle, yes: Handle, no: Handle, dtype: torch.dtype) -> Handle:
        """A choice, element by element. onnxruntime has no Where of booleans and of small integers."""
        if dtype == torch.bool:
            return self.op(
                "Or", self.op("And", condition, yes), self.op("And", self.op("Not", condition), no)
            )
        if dtype in (torch.int16, torch.int8):
            chosen = self.op("Where", condition, self.cast(yes, torch.int32), self.cast(no, torch.int32))
            return self.cast(chosen, dtype)
        return self.op("Where", condition, yes, no)
