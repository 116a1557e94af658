"""What surrounds the loop: instruction sets, threads, forks, other threads of Python, what a kernel says of itself."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import elman
from elman import _core
from tests.core import lstm
from tests.core.assembly import ISAS, Memory, run


def lstm_memory(T=20, B=9, H=32, dtype="float32"):
    rng = np.random.default_rng(0)

    def uniform(*shape):
        return rng.uniform(-1, 1, shape).astype(dtype)

    return Memory(
        T,
        B,
        [uniform(T * B, 4 * H)],
        outs=[np.full((T * B, H), np.nan, dtype)],
        carries=[uniform(B, H), uniform(B, H)],
        weights=[uniform(4 * H, H).T],
    )


SOURCES = str(Path(elman.__file__).parents[1])


def in_a_process(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": SOURCES} | environment,
        timeout=60,
    )


def test_the_best_instruction_set_is_the_default():
    if "ELMAN_ISA" not in os.environ:
        assert _core.isa() == _core.isas()[0]
    assert _core.isas()[-1] == "portable"
    assert lstm.forward(3).kernel().isa == _core.isa()


@pytest.mark.parametrize("isa", ISAS)
def test_the_environment_forces_an_instruction_set(isa):
    done = in_a_process(
        "import elman._core as c; print(c.isa(), 'torch' in __import__('sys').modules)", ELMAN_ISA=isa
    )
    assert done.stdout.split() == [isa, "False"], done.stderr


def test_a_wrong_name_in_the_environment_fails_at_import():
    done = in_a_process("import elman._core", ELMAN_ISA="avx1024")
    assert done.returncode
    assert "instruction set 'avx1024' is not available here, expected one of" in done.stderr


@pytest.mark.parametrize("isa", ISAS)
def test_instruction_sets_agree(isa):
    best = run(lstm.forward(32, keep=False).kernel(), lstm_memory())
    this = run(lstm.forward(32, keep=False).kernel(isa=isa), lstm_memory())
    np.testing.assert_allclose(this.outs[0], best.outs[0], atol=1e-5)


@pytest.mark.parametrize("torch_first", [True, False])
def test_threads_with_and_without_torch(torch_first):
    """With torch in the process its OpenMP runtime does the work; without it the system's, or none: the bits agree."""
    code = f"""
import sys
{"import torch" if torch_first else ""}
sys.path[:0] = {sys.path!r}
import numpy as np
from tests.core import lstm
from tests.core.assembly import run
from tests.core.test_runtime import lstm_memory
kernel = lstm.forward(32, keep=False).kernel()
one, four = (run(kernel, lstm_memory(), threads=n).outs[0] for n in (1, 4))
print(np.array_equal(one, four), sum("libgomp" in line and "r-x" in line for line in open("/proc/self/maps")))
"""
    done = in_a_process(code)
    assert done.stdout.split()[0] == "True", done.stderr
    assert int(done.stdout.split()[1]) <= 1, "two OpenMP runtimes in one process"


def test_a_forked_child_runs_alone():
    """After threads have worked in the parent, a child that waited for them would hang."""
    code = f"""
import os, sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = {sys.path!r}
import torch, numpy as np
from tests.core import lstm
from tests.core.assembly import run
from tests.core.test_runtime import lstm_memory
torch.set_num_threads(2)
torch.ones(1 << 20).add_(1)
kernel = lstm.forward(32, keep=False).kernel()
want = run(kernel, lstm_memory(), threads=2).outs[0]
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(run(kernel, lstm_memory(), threads=2).outs[0], want) else 1)
print(os.waitpid(child, 0)[1])
"""
    done = in_a_process(code)
    assert done.stdout.strip() == "0", done.stderr


def test_one_kernel_in_several_python_threads():
    kernel, memory = lstm.forward(32, keep=False).kernel(), lstm_memory(T=50)
    want = run(kernel, memory).outs[0]
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(run(kernel, memory).outs[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        np.testing.assert_array_equal(result, want)


def test_rows_that_are_never_active_keep_their_state():
    memory = lstm_memory(T=3, B=4)
    memory.offsets = np.array([0, 2, 3, 3], np.int64)
    done = run(lstm.forward(32, keep=False).kernel(), memory, threads=4)
    for before, after in zip(memory.carries, done.carries, strict=True):
        np.testing.assert_array_equal(after[2:], before[2:])
        assert (after[:2] != before[:2]).any(axis=1).all()
    assert np.isfinite(done.outs[0][:3]).all()
    assert np.isnan(done.outs[0][3:]).all()


def test_nan_in_one_row_stays_in_it():
    memory = lstm_memory()
    clean = run(lstm.forward(32, keep=False).kernel(), memory)
    memory.ins[0][4::9] = np.nan
    dirty = run(lstm.forward(32, keep=False).kernel(), memory)
    others = np.arange(9) != 4
    np.testing.assert_array_equal(dirty.carries[0][others], clean.carries[0][others])
    assert np.isnan(dirty.carries[0][4]).all()


def test_a_kernel_says_what_it_is():
    kernel = lstm.forward(5).kernel("float64")
    assert kernel.dtype == "float64"
    lines = str(kernel).splitlines()
    assert lines[0] == "stage 0: product"
    assert lines[1].split() == ["gemm", "REG", "0[0]", "<-", "CARRY", "0[0],", "IN", "0[0]"]
    assert "stage 1: rows" in lines[2]
