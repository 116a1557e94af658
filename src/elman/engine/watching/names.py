"""What a piece of code reads by name: globals, attributes and modules, told apart by its instructions."""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Read", "read_by"]

_BY_A_STRING = {"getattr", "hasattr"}
_NO_MATTER = {"PUSH_NULL", "PRECALL", "CACHE", "NOP", "EXTENDED_ARG"}
_BY_ANY_NAME = {
    "vars",
    "dir",
    "attrgetter",
    "methodcaller",
    "__dict__",
    "__getattribute__",
    "asdict",
    "astuple",
}
_FROM_ANYWHERE = {"eval", "exec", "globals", "__import__", "import_module"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR", "IMPORT_FROM"}
_GLOBAL = {"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "STORE_NAME"}
_SIMPLE = {"LOAD_FAST", "LOAD_DEREF", "LOAD_ATTR", "LOAD_GLOBAL", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW"}


@dataclass(frozen=True, slots=True)
class Read:
    """Names in a piece of code and in the functions that are written in it.

    chains: globals, each with the attributes that are taken from it at once, `("torch", "tanh")`. names: attributes of
    anything else. imports: modules that are imported. dynamic: attributes are also found by names that are computed.
    anywhere: a call that may read whatever there is ("eval"), or an empty string. identity: it asks whether two things
    are one.
    """

    chains: frozenset[tuple[str, ...]]
    names: frozenset[str]
    imports: frozenset[str]
    dynamic: bool
    anywhere: str
    identity: bool


@functools.lru_cache(maxsize=4096)
def read_by(code: types.CodeType) -> Read:
    """What `code` reads by name."""
    chains: set[tuple[str, ...]] = set()
    names = {part for text in _strings(code.co_consts) for part in text.split(".") if part.isidentifier()}
    imports: set[str] = set()
    chain: tuple[str, ...] = ()
    listing = list(dis.get_instructions(code))
    for ins in listing:
        name = str(ins.argval)
        if ins.opname in _GLOBAL:
            chain = (name,)
            chains.add(chain)
        elif ins.opname in _ATTRIBUTE and chain and not ins.is_jump_target and ins.opname != "IMPORT_FROM":
            chains.discard(chain)
            chain = (*chain, name)
            chains.add(chain)
            if ins.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                chain = ()
        else:
            chain = ()
            if ins.opname in _ATTRIBUTE:
                names.add(name)
            elif ins.opname == "IMPORT_NAME":
                imports.update(_parents(name))
    inner = [read_by(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    mentioned = names | {c[0] for c in chains} | {name for c in chains for name in c[1:]}
    return Read(
        frozenset(chains).union(*(r.chains for r in inner)),
        frozenset(names).union(*(r.names for r in inner)),
        frozenset(imports).union(*(r.imports for r in inner)),
        bool(mentioned & _BY_ANY_NAME) or _computes_names(listing) or any(r.dynamic for r in inner),
        next((name for c in chains for name in c if name in _FROM_ANYWHERE), "")
        or next((r.anywhere for r in inner if r.anywhere), ""),
        _compares_identity(listing) or any(r.identity for r in inner),
    )


def _strings(constants: tuple[object, ...]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, tuple | frozenset):
            yield from _strings(tuple(constant))


def _parents(name: str) -> Iterator[str]:
    """The names of a module and of the packages around it."""
    parts = name.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _compares_identity(listing: list[dis.Instruction]) -> bool:
    """Whether `is` stands between two things that are no constants."""
    kept = [ins for ins in listing if ins.opname not in _NO_MATTER]
    return any(b.opname == "IS_OP" and a.opname != "LOAD_CONST" for a, b in pairwise(kept))


def _computes_names(listing: list[dis.Instruction]) -> bool:
    """Whether getattr or hasattr is called with anything but a literal name (and a simple default)."""
    kept = [ins for ins in listing if ins.opname not in _NO_MATTER]
    for i, ins in enumerate(kept):
        if ins.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or ins.argval not in _BY_A_STRING:
            continue
        i += 1
        while i < len(kept) and kept[i].opname in _SIMPLE:
            i += 1
        rest = kept[i : i + 3]
        literal = bool(rest) and rest[0].opname == "LOAD_CONST" and isinstance(rest[0].argval, str)
        if not literal or not (
            rest[1].opname.startswith("CALL")
            or (rest[1].opname in ("LOAD_CONST", "LOAD_FAST") and rest[2].opname.startswith("CALL"))
        ):
            return True
    return False
