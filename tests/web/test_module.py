"""The core as WebAssembly: the cells that freeze, whole networks, what is refused; and its size."""

from __future__ import annotations

import gzip
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import elman
from elman.frozen import frozen_bytes
from elman.nn import Recurrent
from elman.runtime import Frozen
from tests.frozen.running import numbers, tuple_of
from tests.frozen.test_cells import ALL, FAST, REFUSED, WithState
from tests.web.node import MODULES, ROOT, WEB, Job, needs_modules, needs_node, run, script

T, B = 100, 3
# Of the norm of a state, or of y, after so many steps; products and sums are two roundings there.
BOUND = 5e-6

_SPEC = importlib.util.spec_from_file_location("opcodes", ROOT / "csrc" / "wasm" / "opcodes.py")
assert _SPEC and _SPEC.loader
opcodes: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(opcodes)


def cell(name: str, folder: Path) -> tuple[Job, Frozen]:
    """A cell of the registry as a frozen layer, and inputs of T steps."""
    case = ALL[name]
    torch.manual_seed(0)
    taken = torch.utils._pytree.tree_map(
        lambda t: t.detach() if isinstance(t, torch.Tensor) else t, case.inputs(T, B, torch.float32)
    )
    layer = Recurrent(WithState(case.cell(torch.float32), taken.state)).eval()
    file = folder / f"{name}.elman"
    file.write_bytes(frozen_bytes(layer, example=taken.x, context=taken.context))
    return Job(file, numbers(taken.x), numbers(taken.context)), Frozen(file.read_bytes())


def off(found: list[np.ndarray], expected: Any) -> float:
    """The largest distance as a share of the norm of what is expected, over arrays."""
    shares = [0.0]
    for a, b in zip(found, expected, strict=True):
        b = np.asarray(b, np.float64).reshape(-1)
        assert np.array_equal(np.isfinite(a), np.isfinite(b))
        norm = np.linalg.norm(b[np.isfinite(b)])
        shares.append(
            float(np.linalg.norm((a - b)[np.isfinite(b)]) / norm) if norm else float(np.abs(a).max(initial=0))
        )
    return max(shares)


def swept(names: list[str], folder: Path, module: str) -> dict[str, float]:
    """How far each cell is off, its state and its last y, run whole and step by step."""
    jobs, models = zip(*(cell(name, folder) for name in names), strict=True)
    whole, steps = run(list(jobs), module), run([job._replace(stream=True) for job in jobs], module)
    found = {}
    for name, job, model, a, b in zip(names, jobs, models, whole, steps, strict=True):
        assert not a.error + b.error, f"{name}: {a.error or b.error}"
        exact = model.run(*job.xs, context=job.context)
        last = [y.reshape(T, -1)[-1] for y in tuple_of(exact.y)]
        for done in (a, b):
            ys = [y.reshape(T, -1)[-1] for y in done.y]
            found[name] = max(found.get(name, 0.0), off(done.state, exact.state), off(ys, last))
        # One row or all, a step or a hundred: the same bits, but where a context's own kernels run once.
        for p, q in zip([*a.y, *a.state], [*b.y, *b.state], strict=True):
            assert np.array_equal(p.view(np.int32), q.view(np.int32)), name
    return found


@needs_node
@needs_modules
@pytest.mark.parametrize("module", ["elman", pytest.param("elman_relaxed", marks=pytest.mark.slow)])
def test_cells_are_themselves(module: str, tmp_path: Path) -> None:
    found = swept([name for name in ALL if name in FAST - set(REFUSED)], tmp_path, module)
    assert len(found) > 8
    assert {name: far for name, far in found.items() if not far <= BOUND} == {}


@needs_node
@needs_modules
@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_all_cells_are_themselves(module: str, tmp_path: Path) -> None:
    found = swept([name for name in ALL if name not in REFUSED], tmp_path, module)
    for name, far in sorted(found.items(), key=lambda item: -item[1])[:12]:
        print(f"{name:32} {far:.2e}")
    assert {name: far for name, far in found.items() if not far <= BOUND} == {}


@needs_node
@needs_modules
def test_batches_lengths_and_whole_answers(tmp_path: Path) -> None:
    torch.manual_seed(1)
    layer = elman.GRU(5, 6, bidirectional=True).eval()
    file = elman.export(layer, tmp_path / "gru.elman")
    x = torch.randn(7, 4, 5)
    (done, stepped) = run([Job(file, [x.numpy()], lengths=[7, 0, 3, 5]), Job(file, [x.numpy()], stream=True)])
    y, _ = layer(x, lengths=torch.tensor([7, 0, 3, 5]))
    np.testing.assert_allclose(done.y[0].reshape(y.shape), y.detach().numpy(), atol=1e-6)
    assert not done.y[0].reshape(y.shape)[:, 1].any()
    assert "needs whole sequences" in stepped.error


@needs_node
@needs_modules
def test_what_is_wrong_is_a_sentence(tmp_path: Path) -> None:
    file = elman.export(elman.LSTM(2, 3), tmp_path / "lstm.elman")
    damaged = tmp_path / "damaged.elman"
    damaged.write_bytes(file.read_bytes()[:-4])
    none, short, many = run(
        [
            Job(damaged, [np.zeros((1, 1, 2), np.float32)]),
            Job(file, [np.zeros((4, 2, 1), np.float32)]),
            Job(file, [np.zeros((4, 2, 2), np.float32)], lengths=[5, 1]),
        ]
    )
    assert "the file is damaged or no frozen model" in none.error
    assert short.error == "x has 8 numbers; expected 16"
    assert "row 0 has the length 5" in many.error


USES = """
import { readFileSync } from "node:fs";
const { script, module, file, rounds } = JSON.parse(readFileSync(0, "utf8"));
const { Elman } = await import(script);
const elman = await Elman.load(readFileSync(module)), bytes = readFileSync(file);
const size = () => elman.core.memory.buffer.byteLength;
const once = () => {
  const model = elman.model(bytes), stream = model.stream(2);
  stream.step(new Float32Array(4));
  const kept = stream.state, y = stream.step(new Float32Array(4).fill(0.5));
  stream.reset(), stream.state = kept;
  const again = stream.step(new Float32Array(4).fill(0.5));
  const said = [model.said("task"), model.said("nothing"), model.canStep, model.inputs];
  stream.close(), model.close();
  return [String(y) === String(again), ...said];
};
const found = once(), before = size();
for (let i = 0; i < rounds; ++i) once();
console.log(JSON.stringify({ found, grown: size() - before, file: Elman.file() }));
"""


@needs_node
@needs_modules
def test_states_texts_and_memory(tmp_path: Path) -> None:
    """A state that is put back goes on alike, and what is closed takes no memory for ever."""
    file = elman.export(elman.LSTM(2, 300), tmp_path / "lstm.elman")
    told = script(USES, module=str(WEB / "elman.wasm"), file=str(file), rounds=40)
    same, task, nothing, can_step, (x,) = told["found"]
    assert same
    assert (task, nothing, can_step) == ("layer", None, True)
    assert x == {"name": "x", "type": 0, "width": 2, "shape": [2], "whole": False}
    # Forty models of 1.5 MB have been there.
    assert told["grown"] < 20 << 20
    assert told["file"] in {f"{name}.wasm" for name in MODULES}


@needs_modules
@pytest.mark.parametrize("module", MODULES)
def test_the_module_is_small(module: str) -> None:
    assert len(gzip.compress((WEB / f"{module}.wasm").read_bytes(), 9)) <= 150_000
    assert len((WEB / "elman.js").read_text().splitlines()) < 100


# A module of one function: SIMD instructions among constants and a table of jumps that look like them.
BODY = bytes.fromhex(
    "00 41fdaf01 1a "  # i32.const whose bytes are those of the instruction; drop
    "fd0c fdaf01fdaf01fdaf01fdaf01fdaf01fd 1a "  # v128.const, too
    "0240 4100 0e0100 00 0b "  # block, br_table
    "2000 2000 2000 fdaf01 fdcf01 1a 0b"  # the instruction itself, of both types
)


def test_only_instructions_are_renumbered() -> None:
    head = b"\0asm\1\0\0\0" + bytes([0, 3, 1, 0xFD, 0xAF])  # a section of another kind
    module = head + bytes([10, len(BODY) + 2, 1, len(BODY)]) + BODY
    changed, count = opcodes.renumbered(module)
    assert count == 2
    where = [i for i, (a, b) in enumerate(zip(module, changed, strict=True)) if a != b]
    at = module.rindex(b"\xfd\xaf\x01")
    assert where == [at + 1, at + 2, at + 4, at + 5]
    assert changed[at : at + 6] == bytes.fromhex("fd8502fd8702")
    with pytest.raises(ValueError, match="no room"):
        opcodes.renumbered(module, {0xAF: 0x4000})


def test_what_is_built_for_browsers_knows_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of the bindings would stop `make wasm`, which no fast test runs."""
    monkeypatch.syspath_prepend(str(ROOT / "csrc" / "wasm"))
    spec = importlib.util.spec_from_file_location("build_wasm", ROOT / "csrc" / "wasm" / "build.py")
    assert spec
    assert spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    found = build.sources()
    assert {"capi.cpp", "kernel.cpp", "file.cpp", "parallel.cpp", "memory.cpp"} <= {
        path.name for path in found
    }
    assert not [path for path in found if "nanobind" in path.read_text() or "bind.h" in path.read_text()]


def test_without_emscripten_the_build_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "csrc" / "wasm" / "build.py"],
        capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("em++ is not here")
    assert "apt install emscripten" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("em++") is None, reason="Emscripten is not here")
def test_the_sources_compile_for_browsers(tmp_path: Path) -> None:
    """One source by itself; `make wasm` builds all."""
    flags = [
        "-std=c++20",
        "-msimd128",
        "-mrelaxed-simd",
        "-fwasm-exceptions",
        "-DELMAN_ISA_NAMESPACE=portable",
    ]
    done = subprocess.run(
        ["em++", *flags, "-Wall", "-Wextra", "-fsyntax-only", ROOT / "csrc" / "simd" / "isa.cpp"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
