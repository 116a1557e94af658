"""What ran where, and why."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from elman.engine.errors import EngineError
from elman.engine.program.ops import OPS
from elman.engine.program.program import Program, Section

__all__ = ["Explanation", "debug", "explain_program"]

_WHEN = {
    "static": "once a call",
    "context": "once for the context",
    "hoisted": "once for all T·B rows",
    "loop": "at each of the T steps",
    "trailing": "once for all T·B rows",
    "pre": "backward, once for all rows",
    "loop_back": "backward, at each of the T steps",
    "post": "backward, once for all rows",
    "final": "backward, once a call",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which path a scan takes (`path`), why not a faster one (`reason`, `hint`), and its parts, a line each."""

    path: str | None
    reason: str = ""
    hint: str = ""
    parts: tuple[tuple[str, str], ...] = field(default=())
    program: str = ""

    def __str__(self) -> str:
        if self.path is None:
            return "not run yet: call the layer once"
        lines = [f"path: {self.path}"]
        if self.reason:
            lines.append(f"because: {self.reason}")
        if self.hint:
            lines.append(f"instead: {self.hint}")
        width = max((len(name) for name, _ in self.parts), default=0)
        return "\n".join(lines + [f"  {name:<{width}}  {text}" for name, text in self.parts])


def explain_program(path: str, program: Program, reason: str = "") -> Explanation:
    """The parts of a program: when each runs, its products and how many other operations it has."""
    parts = [(name, _describe(name, s)) for name, s in program.sections.items() if s.nodes]
    return Explanation(path, reason, parts=tuple(parts), program=str(program))


def _describe(name: str, section: Section) -> str:
    products = [n for n in section.nodes if n.op.startswith(("mm.", "bmm.", "mv."))]
    shapes = ", ".join("×".join(str(s) for s in n.args[1].shape) for n in products)
    others = sum(n not in products and not _moves(n.op) for n in section.nodes)
    words = [f"{len(products)} product{'s' * (len(products) != 1)} ({shapes})"] if products else []
    words += [f"{others} other operation{'s' * (others != 1)}"] if others else []
    return f"{_WHEN[name]}: {', '.join(words) or 'views only'}"


def _moves(op: str) -> bool:
    native = OPS[op].native if op in OPS else None
    return native is not None and native[0] in ("reshape", "permute", "expand", "slice", "select", "flip")


def debug(level: int, text: str) -> None:
    """Tell on stderr what ELMAN_DEBUG asks for."""
    wanted = os.environ.get("ELMAN_DEBUG") or "0"
    if wanted not in ("0", "1", "2", "3"):
        raise EngineError(
            f"ELMAN_DEBUG={wanted!r}; expected 0, 1 (what ran where), 2 (the graph too) or 3 (the program too)"
        )
    if int(wanted) >= level:
        sys.stderr.write(f"elman: {text}\n")
