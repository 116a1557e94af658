"""Arrays of the core's own memory: they are torch's once taken over, and come back to be used again."""

import gc
import os
import subprocess
import sys

import pytest
import torch
from torch.utils.dlpack import from_dlpack

from elman import _core

MB = 1 << 20


def array(rows, width, dtype="float32"):
    return from_dlpack(_core.array(dtype, rows, width))


@pytest.fixture(autouse=True)
def empty():
    gc.collect()
    _core.release_memory()


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("float64", torch.float64)])
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 200), (2000, 1024)])
def test_an_array_is_an_ordinary_tensor(name, dtype, shape):
    t = array(*shape, name)
    assert (t.shape, t.dtype, t.is_contiguous(), t.data_ptr() % 64) == (shape, dtype, True, 0)
    t.fill_(2)
    assert torch.equal(t * 2, torch.full(shape, 4, dtype=dtype))


def test_freed_memory_is_used_again():
    place = array(1000, 1000).data_ptr()
    assert _core.kept_memory() >= 4 * MB
    assert array(1000, 1000).data_ptr() == place


def test_what_is_alive_is_not_used_again():
    arrays = [array(500, 500).fill_(i) for i in range(20)]
    view = arrays[3][5:7]
    del arrays[3]
    more = [array(500, 500).fill_(-1) for _ in range(20)]
    assert (view == 3).all()
    assert all((t == i + (i > 2)).all() for i, t in enumerate(arrays))
    assert len({t.data_ptr() for t in (*arrays, *more)}) == 39


def test_a_capsule_that_nobody_takes_gives_its_memory_back():
    _core.array("float32", 1000, 1000)
    gc.collect()
    assert _core.kept_memory() >= 4 * MB
    _core.release_memory()
    assert _core.kept_memory() == 0


@pytest.mark.parametrize(("rows", "width"), [(0, 3), (3, 0), (-1, 3), (1 << 40, 1 << 20)])
def test_sizes_that_are_none(rows, width):
    with pytest.raises(ValueError, match="an array of"):
        _core.array("float32", rows, width)


def test_arrays_of_a_shape():
    make = _core.ArrayShape("float64", [2, 3, 5]).make
    a, b = from_dlpack(make()), from_dlpack(make())
    a.fill_(1)
    b.fill_(2)
    assert (a.shape, a.dtype, a.is_contiguous()) == ((2, 3, 5), torch.float64, True)
    assert (a == 1).all()
    for sizes in ([], [3, 0], [1] * 7):
        with pytest.raises(ValueError, match="expected 1 to 6 sizes"):
            _core.ArrayShape("float64", sizes)


def in_a_process(code, **environment):
    program = f"import torch\nfrom torch.utils.dlpack import from_dlpack\nfrom elman import _core\n{code}"
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def test_no_more_is_kept_than_the_limit():
    code = "a = [from_dlpack(_core.array('float32', 1000, 1000)) for _ in range(9)]\ndel a\n"
    limit, kept = map(
        int, in_a_process(f"{code}print(_core.memory_limit(), _core.kept_memory())", ELMAN_CACHE_MB="20")
    )
    assert limit == 20 * MB
    assert 4 * MB <= kept <= limit
    assert in_a_process(f"{code}print(_core.kept_memory())", ELMAN_CACHE_MB="0") == ["0"]


def test_a_forked_child_goes_on():
    code = """
import os
torch.set_num_threads(1)  # torch itself may hang in a forked child
kept = from_dlpack(_core.array('float32', 1000, 1000)).fill_(1)
pid = os.fork()
if pid == 0:
    mine = from_dlpack(_core.array('float32', 1000, 1000)).fill_(2)
    os._exit(0 if bool((kept == 1).all()) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(kept.sum()))
"""
    assert in_a_process(code) == ["0", "1000000"]


def test_a_smaller_array_takes_what_a_larger_one_has_left():
    large = array(1000, 1000)
    place = large.data_ptr()
    del large
    kept = _core.kept_memory()
    smaller = array(600, 1000).fill_(1)
    assert smaller.data_ptr() == place
    assert _core.kept_memory() < kept
    del smaller
    assert _core.kept_memory() == kept  # as large as it was
    assert array(1000, 1000).data_ptr() == place


def test_an_array_of_the_same_size_comes_first_and_no_much_larger_one():
    large, same = array(1000, 1000), array(700, 1000)
    places = large.data_ptr(), same.data_ptr()
    del large, same
    assert array(700, 1000).data_ptr() == places[1]
    _core.release_memory()
    large = array(4000, 1000)
    del large
    kept = _core.kept_memory()
    assert array(300, 1000).fill_(1).sum() == 300_000
    assert _core.kept_memory() > kept  # the large one still lies there
