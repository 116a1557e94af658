"""The run folder: what a training leaves behind, all of it JSON and safetensors, and nothing half-written.

    RUN/run.json            format, task (its word and its module), settings, facts about the data
    RUN/tokenizer.json      and other files that the task needs to use the model
    RUN/last.safetensors    where the training stands, with all that continuing needs
    RUN/best.safetensors    the model at its best validation
    RUN/log.jsonl           one line an event; RUN/learning_curve.* drawn from it

Each file appears under its name only when it is whole and on the disk: it is written beside it, synced, renamed.
A new run is made in a folder of its own and renamed too, so a run folder always holds a model.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import elman
from elman.config import UserError, nearest
from elman.files import sync_folder, write_bytes

__all__ = ["FORMAT", "Run", "stage", "write_json"]

FORMAT = 2


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as `write_bytes` does."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


class Run:
    """A run folder that exists."""

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        """Take the folder and what its run.json says; `Run.open` reads both."""
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> Run:
        """The run in this folder. Raises UserError where there is none, or none that can be read."""
        if not path.is_dir():
            beside = (
                [entry.parent.name for entry in path.parent.glob("*/run.json")]
                if path.parent.is_dir()
                else []
            )
            raise UserError(
                f"no run folder at {path}{nearest(path.name, beside, form=str(path.parent / '{}'))}"
            )
        if not (path / "run.json").is_file():
            raise UserError(f"{path} is not a run folder: it has no run.json")
        manifest = cls(path, {}).read_json("run.json")
        if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
            raise UserError(
                f"{path / 'run.json'} is damaged: it names no format; bring the file back or train anew"
            )
        if manifest["format"] > FORMAT:
            raise UserError(
                f"{path} was written by a newer Elman (format {manifest['format']}, version "
                f"{manifest.get('elman', '?')}); this one is {elman.__version__} and reads up to {FORMAT}: upgrade"
            )
        return cls(path, manifest)

    @property
    def last(self) -> Path:
        """Where the training stands."""
        return self.path / "last.safetensors"

    @property
    def best(self) -> Path:
        """The model at its best validation."""
        return self.path / "best.safetensors"

    @property
    def log(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    def read_json(self, name: str) -> Any:
        """What a JSON file of the folder holds. Raises UserError if it is missing or damaged."""
        if not (self.path / name).is_file():
            raise UserError(f"{self.path} is damaged: {name} is missing; bring it back or train anew")
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (ValueError, OSError, RecursionError) as error:
            raise UserError(f"{self.path / name} is damaged ({error}); bring it back or train anew") from None

    def entry(self, name: str) -> Any:
        """An entry of run.json. Raises UserError if it is missing."""
        if name not in self.manifest:
            raise UserError(
                f"{self.path / 'run.json'} is damaged: it has no {name!r}; bring it back or train anew"
            )
        return self.manifest[name]

    def update(self, **entries: Any) -> None:
        """Change entries of run.json."""
        self.manifest |= entries
        write_json(self.path / "run.json", self.manifest)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other processes from training in the same folder. Raises UserError if one does."""
        if os.name != "posix":
            yield
            return
        import fcntl

        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise UserError(
                    f"another process is training in {self.path}; wait for it or stop it first"
                ) from None
            clear_leftovers(self.path)
            yield


# A file or a folder that a process is about to rename: `.NAME.PID.part`.
_LEFTOVER = re.compile(r"\.(.+)\.(\d+)\.(part|new|old)")


def clear_leftovers(folder: Path) -> None:
    """Remove what processes that have died were writing in a folder. A run that one of them had put aside to replace
    it, and did not replace, gets its name back.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or _lives(int(match[2])):
            continue
        if match[3] == "part" and path.is_file():
            path.unlink(missing_ok=True)
        elif match[3] != "part" and (path / "run.json").is_file():
            place = folder / match[1]
            if match[3] == "old" and not place.exists():
                path.rename(place)
            else:
                shutil.rmtree(path)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise UserError unless a new run may be made at `path`. Only a run or an empty folder is ever overwritten."""
    clear_leftovers(path.parent)
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise UserError(f"{path} cannot be made: {parent} is a file; choose another place by --run")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not (path / "run.json").is_file():
        raise UserError(f"{path} exists and is not a run folder: choose another place by --run")
    if not overwrite:
        raise UserError(
            f"{path} already holds a run: continue it by --resume, replace it by --overwrite, or choose another place "
            f"by --run"
        )


@contextlib.contextmanager
def stage(
    path: Path, task: str, entries: Mapping[str, Any], files: Mapping[str, Any], *, overwrite: bool
) -> Iterator[Run]:
    """Make a new run: inside the block it lies in a folder of its own; after it, under `path`, all at once.

    entries: what run.json says beside format, task and version. files: other JSON files by name. An error inside the
    block leaves nothing behind, and what was at `path` as it was.
    """
    check_free(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        run = Run(
            draft, {"format": FORMAT, "task": task, "elman": elman.__version__, "created": created, **entries}
        )
        for name, value in files.items():
            write_json(draft / name, value)
        run.update()
        yield run
        _publish(draft, path)
        run.path = path
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _publish(draft: Path, path: Path) -> None:
    if not path.exists():
        draft.rename(path)
    else:
        with contextlib.ExitStack() as held:
            if (path / "run.json").is_file():
                held.enter_context(Run(path, {}).hold())
            aside = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(aside)
            draft.rename(path)
            shutil.rmtree(aside)
    sync_folder(path.parent)
