"""One step at a time, batch 1, float32, one thread: a stream beside torch.nn under inference_mode and onnxruntime.

A call of a side is 100 steps from Python, the state carried over; the times are of one call. Each side keeps the state
as it likes: the stream in the core, torch.nn and onnxruntime hand it in and out at each step.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import elman.nn
from benchmarks.pairing import Answers, Case, Side

THREADS = 1
STEPS = 100
SIZES = (16, 64, 256)
BAR = {("LSTM", 64, "onnxruntime"): 4.0}
# The order in which ONNX wants the gates that torch has as i f g o and r z n.
ONNX_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def cases() -> Iterator[Case]:
    """LSTM and GRU of each size beside each peer that is installed."""
    for layer in ("LSTM", "GRU"):
        for size in SIZES:
            torch.manual_seed(0)
            theirs = getattr(nn, layer)(size, size).eval()
            ours = getattr(elman.nn, layer)(size, size).eval()
            ours.load_state_dict(theirs.state_dict())
            x = torch.randn(STEPS, 1, size)
            for name, make in (("torch.nn", by_torch), ("onnxruntime", by_onnx)):
                run = make(theirs, x)
                if run is not None:
                    title = f"{layer}-{size}, {STEPS} steps, {name}"
                    yield Case(
                        title,
                        Side("elman stream", by_stream(ours, x)),
                        Side(name, run),
                        BAR.get((layer, size, name)),
                    )


def by_stream(layer: elman.nn.LSTM | elman.nn.GRU, x: Tensor) -> Callable[[], Answers]:
    """`layer.stream()`, made once."""
    stream, steps = layer.stream(), list(x)
    stream(steps[0])

    def run() -> Answers:
        stream.reset()
        return {"y": torch.stack([stream(x_t) for x_t in steps])}

    return run


def by_torch(layer: nn.Module, x: Tensor) -> Callable[[], Answers]:
    """`y, state = layer(x_t, state)` with a sequence of one step."""
    steps = [x_t.unsqueeze(0) for x_t in x]

    def run() -> Answers:
        with torch.inference_mode():
            state, outs = None, []
            for x_t in steps:
                y, state = layer(x_t, state)
                outs.append(y[0])
            return {"y": torch.stack(outs)}

    return run


def by_onnx(layer: nn.Module, x: Tensor) -> Callable[[], Answers] | None:
    """A session of one LSTM or GRU node, fed with numpy arrays; None where the packages are missing."""
    try:
        import onnxruntime
    except ImportError:
        print("onnxruntime is missing: pip install onnx onnxruntime")
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx_step(layer).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    steps = [x_t.unsqueeze(0).numpy() for x_t in x]
    states = [i.name for i in session.get_inputs()][1:]
    start = np.zeros((1, 1, x.shape[-1]), np.float32)

    def run() -> Answers:
        feed = dict.fromkeys(states, start)
        outs = []
        for x_t in steps:
            feed["x"] = x_t
            y, *after = session.run(None, feed)
            feed = dict(zip(states, after, strict=True))
            outs.append(y[0, 0])
        return {"y": torch.from_numpy(np.stack(outs))}

    return run


def onnx_step(layer: nn.Module, steps: int = 1) -> Any:
    """A model of one recurrent node with the layer's weights: x (T, 1, I) and the states in, y and the states out."""
    from onnx import TensorProto, helper, numpy_helper

    kind = type(layer).__name__
    H = int(layer.hidden_size)  # type: ignore[arg-type]
    states = ["h", "c"] if kind == "LSTM" else ["h"]

    def gates(name: str) -> np.ndarray[Any, Any]:
        parts = layer.state_dict()[name].numpy().reshape(len(ONNX_GATES[kind]), H, -1)
        return np.concatenate([parts[i] for i in ONNX_GATES[kind]])[None]

    bias = np.concatenate([gates("bias_ih_l0"), gates("bias_hh_l0")], axis=1)[..., 0]
    weights = {"W": gates("weight_ih_l0"), "R": gates("weight_hh_l0"), "B": bias}
    more: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(
        kind, ["x", "W", "R", "B", "", *states], ["y", *(f"{s}_next" for s in states)], hidden_size=H, **more
    )
    number = TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "step",
        [helper.make_tensor_value_info("x", number, [steps, 1, int(layer.input_size)])]  # type: ignore[arg-type]
        + [helper.make_tensor_value_info(s, number, [1, 1, H]) for s in states],
        [helper.make_tensor_value_info("y", number, [steps, 1, 1, H])]
        + [helper.make_tensor_value_info(f"{s}_next", number, [1, 1, H]) for s in states],
        [numpy_helper.from_array(np.ascontiguousarray(v), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
