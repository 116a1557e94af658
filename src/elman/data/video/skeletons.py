r"""Skeletons made comparable, and varied in training.

p_t,j ← median over `median` frames of p_j around t
q_t,j = (p_t,j − p_t,root) / s        s: the median over the frames of |p_a − p_b|, or 1
x_t = (q_t, q_t − q_{t−k} for each k of `differences`)        before the first frame stands the first
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Skeleton", "Variation", "centred", "varied"]

Floats = npt.NDArray[np.float32]


class Skeleton(NamedTuple):
    """joints: J, of `dimensions` numbers each. root, torso: joints from 1; root 0: the mean; torso (0, 0): s = 1."""

    joints: int
    dimensions: int = 3
    root: int = 0
    torso: tuple[int, int] = (0, 0)
    median: int = 1


class Variation(NamedTuple):
    """What training does to skeletons, drawn anew each time.

    turn: largest turn about the upright axis, in degrees; lean: about the others. scale: largest share by which the
    body grows or shrinks, and half of it each of its axes. noise: deviation by which the joints of a clip lie
    elsewhere, in its unit. hide: largest share of joints that are set to the root.
    """

    turn: float = 0.0
    lean: float = 0.0
    scale: float = 0.0
    noise: float = 0.0
    hide: float = 0.0


def centred(x: Floats, how: Skeleton) -> Floats:
    """q `(T, J · D)` of p `(T, J · D)`."""
    p = _smoothed(x.reshape(len(x), how.joints, how.dimensions), how.median)
    root = p[:, how.root - 1] if how.root else p.mean(axis=1)
    size = 1.0
    if how.torso[0]:
        a, b = (p[:, joint - 1] for joint in how.torso)
        size = max(float(np.median(np.linalg.norm(a - b, axis=1))), 1e-6)
    return np.asarray(((p - root[:, None]) / size).reshape(len(x), -1), dtype=np.float32)


def _smoothed(p: npt.NDArray[Any], window: int) -> npt.NDArray[Any]:
    if window <= 1:
        return p
    half = window // 2
    padded = np.concatenate((p[:1].repeat(half, axis=0), p, p[-1:].repeat(half, axis=0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return np.asarray(np.median(views, axis=-1))


def varied(x: Floats, how: Skeleton, variation: Variation, generator: np.random.Generator) -> Floats:
    """Centred skeletons `(T, J · D)` turned, stretched, shaken and with joints hidden."""
    q: npt.NDArray[Any] = x.reshape(len(x), how.joints, how.dimensions)
    if how.dimensions == 3:
        angles = np.radians((variation.lean, variation.turn, variation.lean)) * generator.uniform(-1, 1, 3)
        q = q @ _turn(angles).T
    sizes = 1 + variation.scale * generator.uniform(-1, 1, 1 + how.dimensions)
    q = q * (sizes[0] * (1 + (sizes[1:] - 1) / 2))
    if variation.noise:
        # The same for all frames: a body of slightly other bones, and not a tremble.
        q = q + variation.noise * generator.standard_normal((1, how.joints, how.dimensions))
    if variation.hide:
        hidden = generator.random(how.joints) < generator.uniform(0, variation.hide)
        q = np.where(hidden[None, :, None], 0.0, q)
    return np.asarray(q.reshape(len(x), -1), dtype=np.float32)


def _turn(angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The rotation about x, then y, then z."""
    (a, b, c), (s, t, u) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, a, -s], [0, s, a]])
    about_y = np.array([[b, 0, t], [0, 1, 0], [-t, 0, b]])
    about_z = np.array([[c, -u, 0], [u, c, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
