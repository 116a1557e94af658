"""Rule 12, threads: torch's own, as many as torch says; alone in a forked child; safe for callers at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

from battery.cells_simple import H
from battery.registry import BY_NAME
from battery.running import CORE, actual_outcome, assert_outcomes_agree, expected_outcome
from elman.engine import Scan

NATIVE = [None, "reference"] if CORE else [None]


@pytest.mark.parametrize("backend", NATIVE)
def test_callers_at_the_same_time(backend: str | None) -> None:
    """Four threads call one scan: first calls too, with shapes of their own."""
    case = BY_NAME["lstm_layer_norm"]
    cell = case.cell()
    scan = Scan(cell, backend=backend)
    found: dict[int, object] = {}
    given = [case.inputs(4 + k, 3 + k) for k in range(4)]

    def work(k: int) -> None:
        try:
            inputs = given[k]
            for _ in range(5):
                found[k] = actual_outcome(scan, cell, inputs, {})
        except BaseException as error:  # noqa: BLE001 - handed to the test below
            found[k] = error

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for k in range(4):
        if isinstance(found[k], BaseException):
            raise found[k]
        assert_outcomes_agree(found[k], expected_outcome(case.cell(), given[k], {}))


def test_backward_in_another_thread() -> None:
    """autograd may run the backward in a thread of its own; so may the user."""
    case = BY_NAME["gru"]
    cell, inputs = case.cell(), case.inputs(5, 4)
    loss = Scan(cell)(inputs.x, inputs.state).y.sin().sum()
    worker = threading.Thread(target=loss.backward)
    worker.start()
    worker.join()
    grads = [p.grad.clone() for p in cell.parameters()]
    cell.zero_grad()
    Scan(cell)(inputs.x, inputs.state).y.sin().sum().backward()
    for g, p in zip(grads, cell.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_forked_child() -> None:
    """After a threaded call in the parent, a forked child (a DataLoader worker) computes and ends."""
    script = """
    import os, sys, torch
    from battery.registry import BY_NAME
    from battery.running import actual_outcome, assert_outcomes_agree
    from elman.engine import Scan
    torch.set_num_threads(2)
    case = BY_NAME["lstm_gates"]
    cell = case.cell()
    scan = Scan(cell)
    inputs = case.inputs(6, 40)
    with torch.no_grad():
        whole = scan(inputs.x, inputs.state).y
    before = actual_outcome(scan, cell, inputs, {})
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        with torch.no_grad():
            again = scan(inputs.x, inputs.state).y
        os._exit(0 if torch.allclose(again, whole) else 1)
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(Path(__file__).parents[2] / p) for p in ("src", "tests"))},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("rows", [1, 2, 3, 40])
def test_more_threads_than_rows(rows: int) -> None:
    """Four threads, few rows; uneven lengths."""
    case = BY_NAME["gru"]
    cell = case.cell()
    scan = Scan(cell)
    torch.set_num_threads(4)
    inputs = case.inputs(5, rows)
    lengths = {"lengths": torch.tensor([5 - (k % 6) for k in range(rows)])}
    found = actual_outcome(scan, cell, inputs, lengths)
    torch.set_num_threads(1)
    assert_outcomes_agree(found, expected_outcome(case.cell(), inputs, lengths))
    assert H == 7
