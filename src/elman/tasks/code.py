"""Code that a run needs and does not hold: a cell of the user's own (`--cell package.module:Class`).

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

# What may change in a file without a change of what it does.
IDLE = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}


def named_code(config: Any) -> str:
    """The `package.module:Class` that the tables of a config name; empty where they name none."""
    model = config.get("model") if isinstance(config, dict) else None
    cell = model.get("cell") if isinstance(model, dict) else None
    return cell if isinstance(cell, str) and ":" in cell else ""


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
        cell = getattr(getattr(config, "model", None), "cell", "")
        if ":" not in cell:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        module = sys.modules.get(cell.partition(":")[0])
        own = [frame for frame in frames if frame.filename == getattr(module, "__file__", "")]
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        raise UserError(
            f"--cell {cell} does not fit these settings: {type(error).__name__}: {error}{place}; it is called as "
            f"f(input_size, hidden_size)"
        ) from error


def checksum(name: str) -> str:
    """SHA-256 of the source behind `package.module:Class`, but for its comments and blank lines."""
    source = _source(name)
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    words = [f"{token.type} {token.string}" for token in tokens if token.type not in IDLE]
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
