"""The `elman` command for tests: inside this process, or as a process of its own; and small data for it."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from elman.cli import run

SOURCE = str(Path(__file__).parent.parent / "src")

# A model that trains in a moment; the layers of torch.nn, where these are not what is tested.
TINY = [
    *("--hidden", "8", "--batch", "2", "--steps", "5", "--epochs", "1"),
    *("--threads", "1", "--engine", "torch", "--quiet"),
]


class Result(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


def elman(*arguments: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    return Result(code, out.getvalue(), err.getvalue())


def begin(*arguments: object, cwd: Path | None = None) -> subprocess.Popen[str]:
    """Start a command as a process of its own."""
    environment = os.environ | {"PYTHONPATH": SOURCE}
    words = [sys.executable, "-m", "elman", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=cwd)


def process(*arguments: object, cwd: Path | None = None) -> Result:
    """Run a command as a process of its own."""
    with begin(*arguments, cwd=cwd) as child:
        out, err = child.communicate(timeout=120)
    return Result(child.returncode, out, err)


def verse(lines: int = 60) -> str:
    """Text that a small model can learn something of."""
    return "".join(f"line {i} says that {i % 7} and {i % 3} are numbers\n" for i in range(lines))
