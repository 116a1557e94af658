"""One step of a frozen LSTM in node, by the core as WebAssembly: `python -m benchmarks.web_step`.

B = 1, float32. For each module the smallest mean over rounds of 3,000 steps, of `stream.step(x)` as elman.js has it
(numbers copied in and out) and of the call of the core alone; each side in a process of its own, in turns. With
--onnx FOLDER, in which `npm install onnxruntime-web` was run, the same layer as an ONNX file there. The answers after
100 steps must agree with the layer's to 1e-5.
Needs node and the modules (`make wasm`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import elman
from benchmarks.pairing import machine
from benchmarks.streaming import onnx_step
from elman.web.pages import FOLDER

RECORD = Path(__file__).parent / "results" / "web_step.json"
SIZES = (64, 128)
MODULES = ("elman", "elman_relaxed")
STEPS, TURNS = 100, 3
# The flag by which node 20 runs relaxed SIMD; newer ones need none.
RELAXED = "--experimental-wasm-relaxed-simd"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, record. Exit code 1: the answers differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.web_step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="of 3,000 steps, in each turn")
    parser.add_argument("--onnx", type=Path, help="a folder in which `npm install onnxruntime-web` was run")
    parser.add_argument("--record", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args(arguments)
    peers = [*MODULES, *(["onnxruntime-web"] if options.onnx else [])]
    with tempfile.TemporaryDirectory() as folder:
        turns = [
            [_measured(Path(folder), H, name, options) for H in SIZES for name in peers] for _ in range(TURNS)
        ]
    found = [min(same, key=lambda one: one["step_us"]) for same in zip(*turns, strict=True)]
    for one in found:
        call = f", {one['call_us']:.2f} us of it the call" if "call_us" in one else ""
        print(f"LSTM-{one['H']}, {one['name']}: {one['step_us']:.2f} us a step{call}")
    if options.record:
        facts = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            "node": _node(),
            "rounds": TURNS * options.rounds,
        }
        RECORD.write_text(json.dumps(facts | {"results": found}, indent=1) + "\n", encoding="utf-8")
    return 0 if all(one["off"] < 1e-5 for one in found) else 1


def _measured(folder: Path, H: int, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A layer of H units, its inputs as many, after its own steps."""
    torch.manual_seed(H)
    layer = elman.LSTM(H, H)
    x = torch.randn(STEPS, 1, H)
    with torch.no_grad():
        last = layer(x)[0][-1, 0]
    asked: dict[str, Any] = {"x": x.flatten().tolist(), "H": H, "rounds": options.rounds}
    if name in MODULES:
        file = elman.export(layer, folder / f"{H}.elman")
        asked |= {
            "script": str(FOLDER / "elman.js"),
            "module": str(FOLDER / f"{name}.wasm"),
            "file": str(file),
        }
    else:
        file = folder / f"{H}.onnx"
        file.write_bytes(onnx_step(layer).SerializeToString())
        # onnxruntime-web has relaxed SIMD in kernels of its own, and asks for it by itself.
        asked |= {"onnx": str(file), "ort": str(options.onnx.resolve())}
    flags = [RELAXED] if name == "elman_relaxed" and RELAXED in _said("--v8-options") else []
    done = subprocess.run(
        ["node", *flags, str(Path(__file__).with_suffix(".mjs"))],
        input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout.splitlines()[-1])
    off = float((torch.tensor(told.pop("y")) - last).abs().max())
    return {"H": H, "name": name, **told, "off": off}


def _said(flag: str) -> str:
    return subprocess.run(["node", flag], stdout=subprocess.PIPE, text=True, check=True).stdout


def _node() -> str:
    return _said("--version").strip()


if __name__ == "__main__":
    sys.exit(main())
