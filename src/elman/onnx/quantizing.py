"""Weights in eight bits: onnxruntime's dynamic quantization of a file, the loop's body included."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from elman.onnx.files import beside

__all__ = ["QUANTIZED", "describe", "quantize"]

QUANTIZED = ("LSTM",)  # of the recurrent nodes; a GRU or an RNN is quantized where it is a Scan


def quantize(path: str | os.PathLike[str], to: str | os.PathLike[str]) -> Path:
    """A file with the weights of products, of LSTM nodes and of tables in int8, one scale for each row or column of a
    weight; activations are quantized as they come (`onnxruntime.quantization.quantize_dynamic`). Returns its path.

    LSTM nodes become onnxruntime's own `DynamicQuantizeLSTM`; the bodies of Scan are quantized too.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    target = Path(to)
    with beside(target) as draft, _quiet():
        quantize_dynamic(
            os.fspath(path), draft, weight_type=QuantType.QInt8, per_channel=True,
            extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
        )  # fmt: skip
    return target


def describe(path: str | os.PathLike[str], texts: Mapping[str, str]) -> None:
    """Put texts into a file, beside those that it has."""
    import onnx

    model = onnx.load(os.fspath(path))
    known = {entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith("onnx.")}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, known | dict(texts))
    with beside(Path(path)) as draft:
        onnx.save(model, os.fspath(draft))


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer recommends steps that have been taken."""
    log = logging.getLogger()
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
