"""What one frame of a made clip gives away: `python -m benchmarks.single_frame`.

Scenes and times are drawn as `benchmarks.clips` draws them. Of each clip one frame is taken, the first, the middle or
the last of those that a tagger looks at, and read without noise and without a codec: the phase of the stripes, the
colour of the lamp, the pointer's place, the size of the block, the figure's place, and its share of the clip, which no
tagger is told. Trees are fitted to those of the 1,200 training clips. Printed is the average precision over the 400
test clips of each of the six tags on movement, and that of answers in random order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from benchmarks.clips import (
    MOVING,
    SEEDS,
    SIDE,
    SIZES,
    Phases,
    draw_scene,
    draw_shares,
    phases_at,
    times_of,
)
from elman.data.video.decoding import sample_times

RATE, DRAWS = 8.0, 2000
TAKEN = ("first", "middle", "last")
Floats = npt.NDArray[np.float64]


def average_precision(truth: Floats, score: Floats) -> float:
    """The mean precision at each clip that has the tag."""
    hits = truth[np.argsort(-score, kind="stable")]
    return float((hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)).sum() / hits.sum())


def seen(at: Phases, u: float) -> list[float]:
    """What can be read off a frame of these phases at the share u of its clip."""
    turn = 2 * math.pi * at.figure
    return [
        *(at.stripes, int(3 * at.lamp), abs(2 * at.pointer - 1), at.block),
        *(math.cos(turn), math.sin(turn), u),
    ]


def frames(part: str) -> tuple[Floats, Floats]:
    """Of each clip of a part: what is read off its first, middle and last frame `(N, 3, 7)`, and its tags `(N, 6)`."""
    generator = np.random.default_rng(SEEDS[part])
    rows, tags = [], []
    for _ in range(SIZES[part]):
        scene, shares = draw_scene(generator), draw_shares(generator)
        for _ in shares:
            generator.standard_normal((SIDE, SIDE, 3))
        times = times_of(shares)
        # The last frame lasts as long as the one before it.
        looked = sample_times(float(2 * times[-1] - times[-2]), RATE)
        shown = shares[np.searchsorted(times, looked, side="right") - 1]
        places = (0, len(looked) // 2, len(looked) - 1)
        rows.append([seen(phases_at(scene, shown[place]), shown[place]) for place in places])
        tags.append([name in scene.tags for name in MOVING])
    return np.array(rows, float), np.array(tags, float)


def main() -> None:
    """Print."""
    from sklearn.ensemble import GradientBoostingClassifier

    (known, tags), (rows, truth) = frames("train"), frames("test")
    for place, taken in enumerate(TAKEN):
        moments = rows[:, place, -1]
        print(f"{taken} frames, at {moments.mean():.3f}, from {moments.min():.3f} to {moments.max():.3f}")
        found = []
        for number, name in enumerate(MOVING):
            trees = GradientBoostingClassifier(n_estimators=60, max_depth=3, random_state=0)
            scores = trees.fit(known[:, place], tags[:, number]).predict_proba(rows[:, place])[:, 1]
            found.append(average_precision(truth[:, number], scores))
            print(f"    {name}: {found[-1]:.3f}")
        print(f"    mean: {np.mean(found):.3f}")
    draw = np.random.default_rng(0)
    chance = [
        np.mean([average_precision(truth[:, k], draw.random(len(truth))) for k in range(len(MOVING))])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(chance, (0.025, 0.975))
    print(f"answers in random order: {np.mean(chance):.3f}, 95 % of them from {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
