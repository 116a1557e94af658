"""Files of features and of skeletons, a row of numbers a frame: .npy, .npz, text, and .skeleton of NTU RGB+D."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ClipError", "filled", "read_features"]

Floats = npt.NDArray[np.float32]
# Names under which an .npz file may have its frames beside other things.
ARRAYS = ("features", "skeleton", "skeletons", "keypoints", "poses", "x", "data", "arr_0")


class ClipError(Exception):
    """A clip that cannot be used; the message is a few words, such as `no picture in it`."""


def read_features(path: Path, joints: int = 0, dimensions: int = 0) -> Floats:
    """The frames of a file, `(T, F)`; of skeletons `(T, joints · dimensions)`.

    joints: of a skeleton (0: it is none); a text file has then a line for each joint, or one for all of a frame.
    dimensions: numbers of a joint that are used, from its first (0: all).
    Raises ClipError where the file holds no such thing.
    """
    try:
        found = _read(path, joints)
    except OSError as error:
        raise ClipError(
            "no such clip" if isinstance(error, FileNotFoundError) else "file that cannot be opened"
        ) from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise ClipError("file that does not hold numbers") from None
    if not found.size:
        raise ClipError("clip without frames")
    if joints:
        return skeleton_of(found, joints, dimensions)
    return found.reshape(len(found), -1).astype(np.float32)


def _read(path: Path, joints: int) -> npt.NDArray[Any]:
    kind = path.suffix.lower()
    found: npt.NDArray[Any]
    if kind == ".npy":
        found = np.asarray(np.load(path, allow_pickle=False))
    elif kind == ".npz":
        found = _of_several(path)
    elif kind == ".skeleton":
        found = _kinect(path)
    else:
        found = _text(path)
    if found.dtype.kind not in "fiub" or found.ndim < 2:
        raise ClipError("file that does not hold frames of numbers")
    return found


def _of_several(path: Path) -> npt.NDArray[Any]:
    with np.load(path, allow_pickle=False) as held:
        names = list(held.files)
        name = names[0] if len(names) == 1 else next((word for word in ARRAYS if word in names), "")
        if not name:
            raise ClipError(f"file of several arrays ({', '.join(names[:5])}), none of them called features")
        return np.asarray(held[name])


def _text(path: Path) -> npt.NDArray[np.float32]:
    """Numbers between spaces, tabs, commas or semicolons; a first line of names is passed over."""
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [re.split(r"[,;\s]+", line.strip(" \t,;")) for line in lines if line.strip()]
    if rows and not _numbers(rows[0]):
        rows = rows[1:]
    if not rows:
        raise ClipError("empty file")
    if len({len(row) for row in rows}) > 1:
        raise ClipError("lines of unlike lengths")
    return np.array(rows, dtype=np.float32)


def _numbers(cells: list[str]) -> bool:
    try:
        [float(cell) for cell in cells]
    except ValueError:
        return False
    return True


def _kinect(path: Path) -> npt.NDArray[np.float32]:
    """The first body of each frame, `(T, J, 3)`: counts stand in front of frames, bodies and joints."""
    words = iter(path.read_text(encoding="utf-8").splitlines())
    frames = []
    for _ in range(int(next(words, "x"))):
        bodies = []
        for _ in range(int(next(words, "x"))):
            next(words, "")
            joints = range(int(next(words, "x")))
            bodies.append([[float(cell) for cell in next(words, "x").split()[:3]] for _ in joints])
        if bodies:
            frames.append(bodies[0])
    if not frames:
        raise ClipError("no body in it")
    return np.array(frames, dtype=np.float32)


def skeleton_of(found: npt.NDArray[Any], joints: int, dimensions: int) -> Floats:
    """Frames as `(T, joints · D)` of arrays `(T, J, D)`, `(T, J · D)`, or a row a joint, `(T · J, D)`."""
    if found.ndim == 2 and found.shape[1] <= 4 < joints * 2:
        if len(found) % joints:
            raise ClipError(f"{len(found)} lines, which are no frames of {joints} joints")
        found = found.reshape(-1, joints, found.shape[1])
    elif found.ndim == 2:
        if found.shape[1] % joints:
            raise ClipError(f"{found.shape[1]} numbers a frame, which are no {joints} joints")
        found = found.reshape(len(found), joints, -1)
    if found.ndim != 3 or found.shape[1] != joints or found.shape[2] < max(2, dimensions):
        raise ClipError(
            f"frames of {' x '.join(map(str, found.shape[1:]))} numbers, which are no {joints} joints"
        )
    kept = found[:, :, : dimensions or found.shape[2]]
    return kept.reshape(len(kept), -1).astype(np.float32)


def filled(x: Floats) -> tuple[Floats, int, int]:
    """Frames without those that are empty (all zeros, or no number at all); single missing numbers from their
    neighbours in time. Beside them how many frames were empty, and how many numbers were missing.

    Raises ClipError where nothing is left, and where a feature is never known.
    """
    missing = ~np.isfinite(x)
    empty = missing.all(axis=1) | (np.where(missing, 0, x) == 0).all(axis=1)
    if empty.all():
        raise ClipError("nothing but empty frames")
    x, missing = x[~empty].copy(), missing[~empty]
    if missing.any():
        if missing.all(axis=0).any():
            raise ClipError("feature that is never a number")
        at = np.arange(len(x))
        for feature in np.flatnonzero(missing.any(axis=0)):
            known = ~missing[:, feature]
            x[:, feature] = np.interp(at, at[known], x[known, feature])
    return x, int(empty.sum()), int(missing.sum())
