"""Models as ONNX files: what Elman trains, for any runtime that reads ONNX.

A cell's program is printed: what belongs to parameters alone is a number in the file, what needs no state is computed
for all steps at once, and the loop is ONNX's Scan. Batch and time stay open, so one file serves every length.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("onnx_ir") is None:
    raise ImportError("elman.onnx writes files with onnx_ir and onnxscript: pip install 'elman[onnx]'")

from elman.onnx.export import export, export_step
from elman.onnx.graph import Refused
from elman.onnx.translate import translations

__all__ = ["Refused", "export", "export_step", "translations"]
