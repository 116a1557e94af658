"""Frozen models in a browser: elman.js, and the core as WebAssembly, which `make wasm` builds (docs/browser.md)."""

from __future__ import annotations

from pathlib import Path

from elman.config import UserError

__all__ = ["FOLDER", "module"]

FOLDER = Path(__file__).parent


def module() -> bytes:
    """The core as WebAssembly. UserError where it was never built, as in an editable install."""
    try:
        return (FOLDER / "elman.wasm").read_bytes()
    except FileNotFoundError:
        raise UserError(
            "the core for browsers is not in this installation: install the wheel of elman, or build it in a "
            "checkout by `make wasm` (it needs Emscripten; Debian and Ubuntu: apt install emscripten)"
        ) from None
