"""onnxruntime as a peer, forward only: ONNX's own LSTM, GRU and RNN nodes with the weights of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.grid.network import Stock
from benchmarks.grid.optional import package
from benchmarks.pairing import Side

# ONNX's order of the gates, as places in torch's: LSTM i, o, f, g; GRU z, r, n.
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
OPSET = 21
IR_VERSION = 10


def onnx_side(stock: Stock, x: Tensor, threads: int) -> Side:
    """The same layer in onnxruntime; x is handed over without a copy. Raises MissingPackageError."""
    runtime = package("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = runtime.InferenceSession(model(stock, x.shape[0]), options, providers=["CPUExecutionProvider"])
    inputs = {"x": x.numpy()}
    if stock.lengths is not None:
        inputs["lengths"] = stock.lengths.to(torch.int32).numpy()
    return Side(
        f"onnxruntime {stock.kind}",
        lambda: session.run(["y"], inputs)[0],
        lambda y: {"y": torch.from_numpy(y)},
        own_threads=True,
    )


def model(stock: Stock, T: int) -> bytes:
    """The layer as an ONNX model: x `(T, B, I)` to y `(T, B, D·H)`."""
    onnx = package("onnx")
    helper = onnx.helper
    nodes, constants = [], [_constant("joined", np.array([0, 0, -1]))]
    source = "x"
    for layer, suffixes in enumerate(stock.suffixes()):
        W, U, b = (
            np.stack([part(stock, suffix) for suffix in suffixes]) for part in (_input, _recurrent, _bias)
        )
        constants += [_constant(f"{name}{layer}", value) for name, value in (("W", W), ("U", U), ("b", b))]
        ragged = ["lengths"] if stock.lengths is not None else []
        nodes.append(
            helper.make_node(
                stock.kind,
                [source, f"W{layer}", f"U{layer}", f"b{layer}", *ragged],
                [f"by direction {layer}"],
                hidden_size=stock.hidden_size,
                direction="bidirectional" if stock.num_directions == 2 else "forward",
                **({"linear_before_reset": 1} if stock.kind == "GRU" else {}),
            )
        )
        # (T, D, B, H) to (T, B, D, H) to (T, B, D·H)
        swapped, source = f"swapped {layer}", "y" if layer == stock.num_layers - 1 else f"y{layer}"
        nodes.append(helper.make_node("Transpose", [f"by direction {layer}"], [swapped], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [swapped, "joined"], [source]))
    values = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [T, "B", "I"])]
    if stock.lengths is not None:
        values.append(helper.make_tensor_value_info("lengths", onnx.TensorProto.INT32, ["B"]))
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [T, "B", "Y"])
    graph = helper.make_graph(nodes, "layer", values, [result], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    serialized: bytes = made.SerializeToString()
    return serialized


def _constant(name: str, value: Any) -> Any:
    return package("onnx.numpy_helper").from_array(np.ascontiguousarray(value), name)


def _input(stock: Stock, suffix: str) -> Any:
    return _ordered(stock, f"weight_ih{suffix}")


def _recurrent(stock: Stock, suffix: str) -> Any:
    return _ordered(stock, f"weight_hh{suffix}")


def _bias(stock: Stock, suffix: str) -> Any:
    return np.concatenate([_ordered(stock, f"bias_ih{suffix}"), _ordered(stock, f"bias_hh{suffix}")])


def _ordered(stock: Stock, name: str) -> Any:
    """A parameter with its gates in ONNX's order."""
    order = GATES[stock.kind]
    parts = stock.state[name].chunk(len(order))
    return torch.cat([parts[place] for place in order]).numpy()
