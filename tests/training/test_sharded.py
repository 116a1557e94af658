"""FSDP2 over our layers: two processes that share the parameters out end where one does, and shares are never taken for
parameters."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import SOURCE

PROGRAM = Path(__file__).parent / "processes" / "sharded.py"


@pytest.mark.slow
def test_two_processes_that_share_the_parameters_end_where_one_does() -> None:
    port = str(random.SystemRandom().randrange(20000, 60000))
    torchrun = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--master-port", port]
    done = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", str(PROGRAM)],
        env=os.environ | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 4
    for kind, one in found.items():
        assert one["away"] < 1e-6, kind
        # A state dictionary of whole parameters goes into a plain network, and into another one that is shared out.
        assert one["plain"], kind
        assert one["sharded"], kind
        assert one["again"], kind
        # Past the calls that gather them (a stream, `forward` by name) there are shares: an error, never a number.
        assert "DTensor" in one["outside"], kind
        assert "DTensor" in one["stream"], kind
        assert one["gathered"], kind
