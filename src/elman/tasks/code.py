"""Code that a run needs and does not hold: a cell, or an encoder, of the user's own (`--cell package.module:Class`).

To load such a run is to run that code, so it is named first, and only run by leave. The checksum of its source is kept
in the run: other code under the same name would give another model in silence.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tokenize
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.config import UserError
from elman.training.run import Run

if TYPE_CHECKING:
    from elman.tasks.base import Task

__all__ = ["check_code", "code_entries", "made", "named_code"]

# The settings of a section `model` that may name code.
NAMING = ("cell", "encoder")
# What may change in a file without a change of what it does.
IDLE = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}


def named_code(config: Any) -> str:
    """The `package.module:Class` that the tables of a config name, several joined by commas; empty for none."""
    model = config.get("model") if isinstance(config, dict) else None
    values = [model.get(key) for key in NAMING] if isinstance(model, dict) else []
    return ", ".join(value for value in values if isinstance(value, str) and ":" in value)


def code_entries(config: Any) -> dict[str, Any]:
    """What run.json says about the code that a config (nested tables) names."""
    name = named_code(config)
    return {"code": {"name": name, "sha256": checksum(name)}} if name else {}


def check_code(run: Run, *, trust: bool) -> None:
    """Raise UserError if a run needs code that may not be run, or that is no longer what it was trained with."""
    name = named_code(run.manifest.get("config"))
    if not name:
        return
    if not trust:
        raise UserError(
            f"{run.path} needs code that is not a part of Elman: {name}. To load the run is to run that code; if you "
            f"trust it, give --allow-code (in Python: elman.load(..., trust=True))"
        )
    kept = run.manifest.get("code", {}).get("sha256")
    if kept != checksum(name):
        raise UserError(
            f"the source of {name} has changed since {run.path} was trained with it: bring it back, or train anew"
        )


def made(task: Task, config: Any, codec: Any) -> Any:
    """The model of a task. Raises UserError where the user's own cell cannot be made, or does not fit the settings."""
    try:
        return task.model(config, codec)
    except UserError:
        raise
    except Exception as error:
        given = {key: getattr(getattr(config, "model", None), key, "") for key in NAMING}
        named = {key: name for key, name in given.items() if ":" in name}
        if not named:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        files = {key: _file_of(name) for key, name in named.items()}
        key = next((key for key in named if files[key] in {frame.filename for frame in frames}), [*named][-1])
        own = [frame for frame in frames if frame.filename == files[key]]
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        call = "f(input_size, hidden_size)" if key == "cell" else "f()"
        raise UserError(
            f"--{key} {named[key]} does not fit these settings: {type(error).__name__}: {error}{place}; it is called "
            f"as {call}"
        ) from error


def _file_of(name: str) -> str:
    return getattr(sys.modules.get(name.partition(":")[0]), "__file__", None) or ""


def checksum(name: str) -> str:
    """SHA-256 of the source behind each `package.module:Class` of a list, but for its comments and blank lines."""
    words = []
    for one in name.split(", "):
        tokens = tokenize.tokenize(io.BytesIO(_source(one)).readline)
        words += [f"{token.type} {token.string}" for token in tokens if token.type not in IDLE]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _source(name: str) -> bytes:
    module = name.partition(":")[0]
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise UserError(f"there is no module {module!r} (of {name}) in {here} or among the packages")
    return Path(found.origin).read_bytes()
