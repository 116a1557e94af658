"""A frozen model as one page that needs no server and makes no request."""

from __future__ import annotations

import base64
import gzip
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from elman.config import UserError

__all__ = ["FOLDER", "PAGES", "module", "page"]

FOLDER = Path(__file__).parent
MODULE = FOLDER / "elman.wasm"


class _Page(NamedTuple):
    """script: the file that has `show(model, place)`. subtitle: what the model is."""

    script: str
    subtitle: str


# By the task that a frozen file names.
PAGES = {
    "language model": _Page("writing.js", "A recurrent language model, which writes on from any beginning."),
    "classification": _Page("classifying.js", "A recurrent classifier of texts, and the words that weighed."),
    "music": _Page("composing.js", "A recurrent model of music, which composes and plays."),
}


def module() -> bytes:
    """The core as WebAssembly. UserError where it was never built, as in an editable install."""
    try:
        return MODULE.read_bytes()
    except FileNotFoundError:
        raise UserError(
            "the core for browsers is not in this installation: install the wheel of elman, or build it in a "
            "checkout by `make wasm` (it needs Emscripten; Debian and Ubuntu: apt install emscripten)"
        ) from None


def page(task: str, *, title: str, version: str) -> Callable[[bytes], str]:
    """What makes a page as HTML of a frozen file: models write, judge or compose.

    task: what the file says of its task, one of `PAGES`. The model and the core are in the page, compressed; what a
    page may do is in its head, and no request is among it. UserError for another task, and without the core.
    """
    if task not in PAGES:
        raise UserError(
            f"there is no page for a model of the task {task!r}; there is one for: {', '.join(PAGES)}"
        )
    known = PAGES[task]
    core = module()
    parts = {
        "title": html.escape(title),
        "subtitle": html.escape(known.subtitle),
        "version": html.escape(version),
        "module": _packed(core),
        "script": "\n".join(_script(name) for name in ("elman.js", "texts.js", known.script)),
    }
    template = (FOLDER / "page.html").read_text(encoding="utf-8")

    def made(frozen: bytes) -> str:
        own = parts | {"model": _packed(frozen)}
        return re.sub(r"\{\{(\w+)\}\}", lambda found: own[found[1]], template)

    return made


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def _script(name: str) -> str:
    """A module's text as a part of another one: what it imports stands before it already."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return re.sub(r"^import .*\n", "", re.sub(r"^export ", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
