"""elman-runtime: a wheel of the runtime alone, which runs a model where there is no torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from distributions import runtime_wheel
from elman.frozen import export
from elman.nn import LSTM, Embedding, Tagger
from elman.runtime import load

ROOT = Path(__file__).parents[2]
USES = """
import importlib.util, json, sys
import numpy as np
import elman, elman.runtime
model = elman.runtime.load(sys.argv[1])
y = model.run(np.array(json.loads(sys.argv[2]))).y
stream = model.stream(1)
steps = [stream(x)[0].tolist() for x in json.loads(sys.argv[2])]
assert importlib.util.find_spec("torch") is None and importlib.util.find_spec("msgspec") is None
assert elman.__version__
try:
    elman.LSTM
except AttributeError as error:
    said = str(error)
print(json.dumps([y[:, 0].tolist(), steps, said, elman.runtime.__file__]))
"""


def test_it_holds_the_runtime_and_what_it_imports(tmp_path: Path) -> None:
    wheel = zipfile.ZipFile(runtime_wheel.write_wheel(tmp_path, b"library"))
    names = set(wheel.namelist())
    assert {
        "elman/runtime/model.py",
        "elman/runtime/tagging.py",
        "elman/decoding/chain.py",
        "elman/errors.py",
    } <= names
    assert wheel.read(runtime_wheel.LIBRARY) == b"library"
    assert not [n for n in names if n.startswith(("elman/engine", "elman/nn", "elman/tasks", "elman/config"))]
    record = wheel.read(next(n for n in names if n.endswith("RECORD"))).decode()
    assert {line.split(",")[0] for line in record.splitlines()} == names
    outside = {
        name.split(".")[0]
        for path in runtime_wheel.modules()
        if path.name != "__init__.py" or path.parent.name != "elman"
        for name in runtime_wheel.imported(path)
    }
    # Of torch the log-mel features of a training alone, within a function.
    assert outside - set(sys.stdlib_module_names) == {"elman", "numpy", "tokenizers", "torch"}


def test_all_of_it_is_there_without_other_packages(tmp_path: Path) -> None:
    """Every module of the wheel is imported in a process that finds the standard library and numpy alone."""
    with zipfile.ZipFile(runtime_wheel.write_wheel(tmp_path, b"library")) as wheel:
        wheel.extractall(tmp_path / "site")
        names = [
            n[:-3].replace("/", ".").removesuffix(".__init__") for n in wheel.namelist() if n.endswith(".py")
        ]
    (tmp_path / "site" / "numpy").symlink_to(Path(np.__file__).parent)
    for libraries in Path(np.__file__).parents[1].glob("numpy.libs"):
        (tmp_path / "site" / "numpy.libs").symlink_to(libraries)
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n" + "".join(
        f"import {n}\n" for n in names
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("beside", [False, True])
def test_what_is_missing_says_how_it_comes(tmp_path: Path, *, beside: bool) -> None:
    """Written over an installed elman, it says what to do; alone, where the rest is."""
    site = tmp_path / "site"
    if beside:
        (site / "elman-0.1.dist-info").mkdir(parents=True)
        (site / "elman-0.1.dist-info" / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: elman\nVersion: 0.1\n"
        )
    with zipfile.ZipFile(runtime_wheel.write_wheel(tmp_path, b"library")) as wheel:
        wheel.extractall(site)
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import elman; elman.LSTM"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith("AttributeError: module 'elman' has no attribute 'LSTM': this is elman-runtime")
    assert ("pip uninstall elman elman-runtime, then pip install elman" in said) == beside


@pytest.mark.slow
@pytest.mark.skipif(None in map(shutil.which, ("c++", "cmake")), reason="there is no compiler, or no CMake")
def test_a_model_runs_where_there_is_no_torch(tmp_path: Path) -> None:
    """Installed by pip into a new environment, from the index that pip has for numpy."""
    given = os.environ.get("ELMAN_PREFIX")
    library = ["--library", str(Path(given) / "lib" / "libelman_runtime.so")] if given else []
    command = [sys.executable, "-m", "distributions.runtime_wheel", str(tmp_path), *library]
    built = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    venv.create(tmp_path / "fresh", with_pip=True)
    python = tmp_path / "fresh" / "bin" / "python"
    wanted = ["-c", ROOT / "constraints.txt", built.stdout.strip()]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    torch.manual_seed(0)
    path = export(Tagger(Embedding(5, 3), LSTM(3, 4), 2), tmp_path / "model.elman")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ELMAN"))}
    done = subprocess.run(
        [python, "-c", USES, path, "[[1], [4], [2]]"], capture_output=True, text=True, check=False,
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    import json

    y, steps, said, where = json.loads(done.stdout)
    expected = load(path).run(np.array([[1], [4], [2]])).y[:, 0]
    assert np.array_equal(np.array(y, np.float32), expected)
    assert np.array_equal(np.array(steps, np.float32), expected)
    assert "in the distribution elman" in said
    assert str(tmp_path / "fresh") in where
