"""Libraries that only the grid wants, and only where they are there."""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


class MissingPackageError(Exception):
    """A peer is not installed; the message says what to install."""


@cache
def package(name: str) -> Any:
    """The module of that name. Raises MissingPackageError."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = f"benchmarks/{REQUIREMENTS.name}"
        raise MissingPackageError(
            f"{name} cannot be imported ({error}); pip install -c constraints.txt -r {needed}"
        ) from None
