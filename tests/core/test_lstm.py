"""The hand-written LSTM and GRU loops against torch.nn: values, and all gradients."""

import numpy as np
import pytest
import torch

from tests.core import lstm
from tests.core.assembly import DTYPES, ISAS, Memory, run

SIZES = [(1, 1, 1), (5, 1, 64), (7, 3, 17), (6, 20, 33), (4, 37, 64)]


def reference(layer: torch.nn.LSTM, x: torch.Tensor, dy: torch.Tensor) -> dict[str, np.ndarray]:
    x = x.clone().requires_grad_()
    start = [torch.randn(1, x.shape[1], layer.hidden_size, dtype=x.dtype).requires_grad_() for _ in range(2)]
    y, (h, c) = layer(x, tuple(start))
    gradients = torch.autograd.grad((y * dy).sum(), [x, *start, *layer.parameters()])
    names = ["dx", "dh0", "dc0", "dW", "dU", "db", "db2"]
    values = {"y": y, "h": h, "c": c, "h0": start[0], "c0": start[1]} | dict(
        zip(names, gradients, strict=True)
    )
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in values.items()}


def run_core(layer, x, dy, want, *, dtype, isa, threads):
    T, B, H = dy.shape
    W, U, b = (
        p.detach().numpy()
        for p in (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0 + layer.bias_hh_l0)
    )
    flat = np.ascontiguousarray(x.numpy().reshape(T * B, -1))
    outs = [np.full((T * B, n), np.nan, dtype) for n in (H, 4 * H, H, H)]
    memory = Memory(T, B, [flat @ W.T + b], outs=outs, carries=[want["h0"][0], want["c0"][0]], weights=[U.T])
    done = run(lstm.forward(H).kernel(dtype, isa), memory, threads=threads)
    y, gates, before, tanh_c = done.outs
    memory = Memory(
        T,
        B,
        [np.ascontiguousarray(dy.numpy().reshape(T * B, H)), gates, before, tanh_c],
        outs=[np.full((T * B, 4 * H), np.nan, dtype)],
        carries=[np.zeros((B, H), dtype), np.zeros((B, H), dtype)],
        weights=[U],
    )
    back = run(lstm.backward(H).kernel(dtype, isa), memory, reverse=True, threads=threads)
    (da,) = back.outs
    h_before = np.concatenate([want["h0"].reshape(B, H), y[:-B]])
    return {
        "y": y.reshape(T, B, H),
        "h": done.carries[0][None],
        "c": done.carries[1][None],
        "dx": (da @ W).reshape(T, B, -1),
        "dh0": back.carries[0][None],
        "dc0": back.carries[1][None],
        "dW": da.T @ flat,
        "dU": da.T @ h_before,
        "db": da.sum(0),
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("T", "B", "H"), SIZES)
@pytest.mark.parametrize("threads", [1, 2])
def test_lstm_is_torch_lstm(T, B, H, isa, dtype, threads):
    torch.manual_seed(T * 100 + B)
    kind = getattr(torch, dtype)
    layer = torch.nn.LSTM(5, H, dtype=kind)
    x, dy = torch.randn(T, B, 5, dtype=kind), torch.randn(T, B, H, dtype=kind)
    want = reference(layer, x, dy)
    got = run_core(layer, x, dy, want, dtype=dtype, isa=isa, threads=threads)
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    for name, value in got.items():
        np.testing.assert_allclose(value, want[name], rtol=tolerance, atol=tolerance * 10, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_gru_is_torch_gru(isa, dtype):
    T, B, H = 6, 5, 21
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    layer = torch.nn.GRU(4, H, dtype=kind)
    x = torch.randn(T, B, 4, dtype=kind)
    y, h = layer(x)
    bias = layer.bias_ih_l0.clone()
    bias[: 2 * H] += layer.bias_hh_l0[: 2 * H]
    projected = (x @ layer.weight_ih_l0.T + bias).detach().numpy().reshape(T * B, 3 * H)
    memory = Memory(
        T,
        B,
        [projected],
        vec=[layer.bias_hh_l0[2 * H :].detach().numpy()],
        outs=[np.full((T * B, H), np.nan, dtype)],
        carries=[np.zeros((B, H), dtype)],
        weights=[layer.weight_hh_l0.detach().numpy().T],
    )
    done = run(lstm.gru_forward(H).kernel(dtype, isa), memory)
    tolerance = {"float32": 2e-6, "float64": 1e-13}[dtype]
    np.testing.assert_allclose(done.outs[0].reshape(T, B, H), y.detach().numpy(), atol=tolerance)
    np.testing.assert_allclose(done.carries[0], h[0].detach().numpy(), atol=tolerance)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("B", [1, 2])
def test_few_rows_share_columns(isa, B):
    """With fewer rows than threads each thread has its columns of the product; the bits stay."""
    torch.manual_seed(0)
    H = 130
    layer, x, dy = torch.nn.LSTM(5, H), torch.randn(7, B, 5), torch.randn(7, B, H)
    want = reference(layer, x, dy)
    one, *others = (
        run_core(layer, x, dy, want, dtype="float32", isa=isa, threads=threads) for threads in (1, 3, 4)
    )
    for name, value in one.items():
        np.testing.assert_allclose(value, want[name], rtol=0, atol=2e-5)
        for other in others:
            np.testing.assert_array_equal(other[name], value)
