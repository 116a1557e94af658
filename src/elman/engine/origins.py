"""Where code and classes come from: torch, the engine, Python's library, an installed package, or the user."""

from __future__ import annotations

import functools
import os
import sys
import types
from pathlib import Path

import torch

__all__ = [
    "OURS",
    "is_elman",
    "is_engine",
    "is_of_others",
    "is_packaged",
    "is_torch",
    "is_users_own",
    "package_of",
]

_TORCH = str(Path(torch.__file__).parent) + os.sep
_ENGINE = str(Path(__file__).parent) + os.sep
_ELMAN = str(Path(__file__).parent.parent) + os.sep
_STDLIB = str(Path(os.__file__).parent) + os.sep
OURS = (_TORCH, _ENGINE)
_PACKAGES = (f"site-packages{os.sep}", f"dist-packages{os.sep}")


# By the name of the file: two pieces of code are equal where they are written alike, from wherever they come.


def is_torch(code: types.CodeType) -> bool:
    """Whether code is torch's own."""
    return code.co_filename.startswith(_TORCH)


def is_engine(code: types.CodeType) -> bool:
    """Whether code is of `elman.engine`."""
    return code.co_filename.startswith(_ENGINE)


def is_elman(code: types.CodeType) -> bool:
    """Whether code is of `elman`, wherever that is installed."""
    return code.co_filename.startswith(_ELMAN)


def package_of(code: types.CodeType) -> str:
    """The folder or the file of the installed package that code belongs to; empty where it belongs to none."""
    return _package(code.co_filename)


@functools.lru_cache(maxsize=4096)
def _package(file: str) -> str:
    for packages in _PACKAGES:
        before, found, rest = file.rpartition(packages)
        if found and not file.startswith(_ELMAN):
            return before + found + rest.partition(os.sep)[0]
    return ""


def is_packaged(code: types.CodeType) -> bool:
    """Whether code is of an installed package, elman's own not counted."""
    return bool(package_of(code))


def is_of_others(code: types.CodeType) -> bool:
    """Whether code is of the standard library or of an installed package."""
    library = code.co_filename.startswith((_STDLIB, "<frozen"))
    return is_packaged(code) or (library and not is_elman(code))


def is_users_own(kind: type) -> bool:
    """Whether a class is neither of Python's standard library nor of an installed package (but for elman's own)."""
    return _is_users_module(kind.__module__)


@functools.cache
def _is_users_module(name: str) -> bool:
    root = name.partition(".")[0]
    if root in ("elman", "__main__"):
        return True
    if root in sys.stdlib_module_names or root == "builtins":
        return False
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return not any(packages in file for packages in _PACKAGES)
