"""The library from C and C++: the header is plain C99, the examples build against an installed library and run, and a
step takes no memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import elman
from elman import nn as en
from elman.frozen.program import write_program
from elman.runtime import load
from elman.runtime.library import _NAMES

ROOT = Path(__file__).parents[2]
HEADER = (ROOT / "csrc" / "elman.h").read_text()
CC, CXX, CMAKE = (shutil.which(name) for name in ("cc", "c++", "cmake"))


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_the_header_and_the_programs_are_c99() -> None:
    flags = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{ROOT / 'csrc'}")
    run(CC, *flags, ROOT / "examples" / "c" / "steps.c", ROOT / "src" / "elman" / "frozen" / "main.c")


@pytest.mark.skipif(CXX is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("standard", ["c++11", "c++20"])
def test_the_header_is_c_plus_plus(standard: str) -> None:
    flags = (
        f"-std={standard}",
        "-pedantic",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fsyntax-only",
        f"-I{ROOT / 'csrc'}",
    )
    run(CXX, *flags, "-x", "c++", "-", input="#include <elman.h>\n")


def test_python_opens_each_function_of_the_header() -> None:
    declared = set(re.findall(r"^ELMAN_API [\w *]*?(elman_\w+)\(", HEADER, re.MULTILINE))
    assert declared == set(_NAMES)
    assert len(declared) > 20


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, built against the library as it is installed; that of ELMAN_PREFIX where it is given."""
    folder = tmp_path_factory.mktemp("installed")
    prefix = Path(os.environ.get("ELMAN_PREFIX", folder / "prefix"))
    if not prefix.exists():
        run(CMAKE, "-S", ROOT, "-B", folder / "library", "-DELMAN_RUNTIME_ONLY=ON")
        run(CMAKE, "--build", folder / "library", "-j2")
        run(CMAKE, "--install", folder / "library", "--prefix", prefix)
    run(CMAKE, "-S", ROOT / "examples" / "c", "-B", folder / "examples", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(CMAKE, "--build", folder / "examples")
    return folder / "examples"


@pytest.mark.slow
@pytest.mark.skipif(None in (CC, CXX, CMAKE), reason="there is no compiler, or no CMake")
def test_the_examples_run(installed: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = elman.export(elman.LSTM(2, 3, num_layers=2, residual=True), tmp_path / "lstm.elman")
    x = np.array([[[0.5, 1]], [[0, -1]], [[2, 0.25]]], np.float32)
    told = run(installed / "steps", path, input="0.5 1\n0 -1\n2 0.25\n")
    lines = np.array([[float(word) for word in line.split()] for line in told.splitlines()], np.float32)
    assert np.array_equal(lines, load(path).run(x).y[:, 0])

    said = run(installed / "sequences", path)
    assert said == "two threads: equal\nstep by step: equal\nallocations in 6 steps: 0\n"
    both = elman.export(elman.GRU(2, 3, bidirectional=True), tmp_path / "both.elman")
    assert run(installed / "sequences", both) == "two threads: equal\n"

    damaged = tmp_path / "damaged.elman"
    damaged.write_bytes(path.read_bytes()[:-1])
    done = subprocess.run(
        [installed / "steps", damaged], input="", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "the file is damaged or no frozen model: " in done.stderr


PROGRAMS = {
    "steps": (lambda: en.LSTM(2, 3, num_layers=2), lambda x: x),
    "double": (lambda: en.GRU(2, 3, dtype=torch.float64), lambda x: x.astype(np.float64)),
    "tokens": (lambda: en.LanguageModel(5, 3, 4), lambda x: np.abs(x[..., 0]).astype(np.int64)),
    "whole": (lambda: en.GRU(2, 3, bidirectional=True), lambda x: x),
    "pooled": (lambda: en.SequenceClassifier(en.Features(2), en.LSTM(2, 3), 4), lambda x: x),
}


@pytest.mark.slow
@pytest.mark.skipif(None in (CC, CXX, CMAKE), reason="there is no compiler, or no CMake")
def test_an_exported_program_compiles_and_gives_the_same_numbers(installed: Path, tmp_path: Path) -> None:
    prefix = Path(os.environ.get("ELMAN_PREFIX", installed.parent / "prefix"))
    x = np.array([[[0.5, 1]], [[0, -1]], [[2, 0.25]], [[3, 1e-3]]], np.float32)
    lines = {}
    for name, (make, read) in PROGRAMS.items():
        torch.manual_seed(0)
        model = make()
        write_program(tmp_path / name, lambda path, model=model: elman.export(model, path))
        if name in ("steps", "tokens"):
            run("make", "-C", tmp_path / name, f"PREFIX={prefix}")
            program, where = tmp_path / name / "main", tmp_path / name
        else:
            run(
                CMAKE,
                "-S",
                tmp_path / name,
                "-B",
                tmp_path / f"{name}.build",
                f"-DCMAKE_PREFIX_PATH={prefix}",
            )
            run(CMAKE, "--build", tmp_path / f"{name}.build")
            program = where = tmp_path / f"{name}.build" / "main"
            where = where.parent
        given = read(x)
        text = "\n".join(" ".join(repr(v.item()) for v in row.reshape(-1)) for row in given)
        told = run(program, input=f"{text}\n", cwd=where)
        expected = load(where / "model.elman").run(given).y
        lines[name] = np.array(
            [[float(w) for w in line.split()] for line in told.splitlines()], expected.dtype
        )
        assert np.array_equal(lines[name], expected.reshape(lines[name].shape)), name
        assert run(program, input="", cwd=where) == ""
    done = subprocess.run([program, "nothing"], capture_output=True, text=True, check=False, input="1 2")
    assert done.returncode == 1
    assert done.stderr == "nothing cannot be read: No such file or directory\n"
    done = subprocess.run([program], capture_output=True, text=True, check=False, input="1 2\n3", cwd=where)
    assert done.returncode == 1
    assert done.stderr == "a step is 2 numbers; the last one has 1\n"


def test_the_folder_of_a_program(tmp_path: Path) -> None:
    folder = tmp_path / "gru"
    for _ in range(2):  # the second time over its own files
        write_program(folder, lambda path: path.write_bytes(b"model"))
    assert sorted(p.name for p in folder.iterdir()) == ["CMakeLists.txt", "Makefile", "main.c", "model.elman"]
    assert [p.name for p in tmp_path.iterdir()] == ["gru"]
    (folder / "own.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="something else of this name"):
        write_program(folder, lambda path: path.write_bytes(b"other"))
    assert (folder / "model.elman").read_bytes() == b"model"
