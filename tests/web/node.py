"""Frozen models through elman.js in node, beside the library itself."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "src" / "elman" / "web"
NODE = shutil.which("node")
MODULES = ("elman", "elman_relaxed")
RELAXED_FLAG = "--experimental-wasm-relaxed-simd"

needs_node = pytest.mark.skipif(NODE is None, reason="node is not here")
needs_modules = pytest.mark.skipif(
    not all((WEB / f"{name}.wasm").exists() for name in MODULES),
    reason="the core is not built for browsers here (make wasm)",
)


class Job(NamedTuple):
    """A frozen file and its arrays, time first. stream: step by step."""

    file: Path
    xs: list[np.ndarray]
    context: Sequence[np.ndarray] = ()
    lengths: list[int] | None = None
    stream: bool = False

    def to_json(self) -> dict[str, Any]:
        """What the script reads."""
        steps, batch = self.xs[0].shape[:2]
        more = {} if self.lengths is None else {"lengths": self.lengths}
        return {
            "file": str(self.file), "xs": [_text(x) for x in self.xs], "context": [_text(c) for c in self.context],
            "steps": steps, "batch": batch, "stream": self.stream, **more,
        }  # fmt: skip


class Done(NamedTuple):
    """y and state as flat arrays, or an error."""

    y: list[np.ndarray]
    state: list[np.ndarray]
    error: str = ""


def script(source: str | Path, *flags: str, **given: Any) -> Any:
    """What a script of node prints as JSON for an object on its standard input."""
    words = [NODE, *flags, *(["--input-type=module", "-e", source] if isinstance(source, str) else [source])]
    done = subprocess.run(
        [str(word) for word in words], input=json.dumps({"script": str(WEB / "elman.js"), **given}),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def takes_relaxed() -> list[str]:
    """The flag by which this node runs relaxed SIMD; of newer ones none."""
    known = subprocess.run([str(NODE), "--v8-options"], capture_output=True, text=True, check=True).stdout
    return [RELAXED_FLAG] if "--experimental-wasm-relaxed-simd" in known else []


def run(jobs: list[Job], module: str = "elman") -> list[Done]:
    """All of them in one process."""
    flags = takes_relaxed() if module == "elman_relaxed" else []
    told = script(
        Path(__file__).with_name("drive.mjs"), *flags,
        module=str(WEB / f"{module}.wasm"), jobs=[job.to_json() for job in jobs],
    )  # fmt: skip
    return [
        Done([], [], one["error"]) if "error" in one else Done(_arrays(one["y"]), _arrays(one["state"]))
        for one in told
    ]


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, np.float32).tobytes()).decode()


def _arrays(texts: list[str]) -> list[np.ndarray]:
    return [np.frombuffer(base64.b64decode(text), np.float32) for text in texts]
