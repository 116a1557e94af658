"""What the middle frame of a made clip gives away: `python -m benchmarks.single_frame`.

The middle frame of a file is not the middle of its scene: the first frame stands at 0 and the last one is over before
the scene is, so that it is taken at u = 0.485 of the scene on the mean, and hardly ever behind 0.5. There a pointer
that turns three times lies further from its end than one that turns once, a block that grows is still the smaller one,
and the lamp has its first colour a little more often. Scenes and times are drawn as `benchmarks.clips` draws them; of
each middle frame three numbers are read, without noise and without a codec: the colour of the lamp, the pointer's
distance from its nearer end, the size of the block. Trees are fitted to those of the 1,200 training clips. Printed is
the average precision over the 400 test clips of each of the six tags on movement, and that of answers in random order.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.clips import MOVING, SECONDS, SEEDS, SIDE, SIZES, draw_scene, draw_times, picture
from elman.data.video.decoding import sample_times

RATE, DRAWS = 8.0, 2000
Floats = npt.NDArray[np.float64]


def average_precision(truth: Floats, score: Floats) -> float:
    """The mean precision at each clip that has the tag."""
    hits = truth[np.argsort(-score, kind="stable")]
    return float((hits * np.cumsum(hits) / np.arange(1, len(hits) + 1)).sum() / hits.sum())


def middles(part: str) -> tuple[Floats, Floats, Floats]:
    """Of each clip of a part: three numbers of its middle frame `(N, 3)`, its tags `(N, 6)`, and u `(N,)`."""
    generator = np.random.default_rng(SEEDS[part])
    rows, tags, moments = [], [], []
    for _ in range(SIZES[part]):
        scene = draw_scene(generator)
        times = draw_times(generator)
        for _ in times:
            generator.standard_normal((SIDE, SIDE, 3))
        # The last frame lasts as long as the one before it.
        looked = sample_times(float(2 * times[-1] - times[-2]), RATE)
        shown = times[np.searchsorted(times, looked[len(looked) // 2], side="right") - 1]
        frame = picture(scene, float(shown) / SECONDS)
        columns = np.flatnonzero((frame[5, :36] == (240, 240, 60)).all(axis=1))
        at = columns.mean() if len(columns) else 15.0
        block = (frame[:12, 34:, 1] == 200).sum()
        rows.append((frame[4, 4, 0], min(abs(at - 15), abs(at - 32)), block))
        tags.append([name in scene.tags for name in MOVING])
        moments.append(shown / SECONDS)
    return np.array(rows, float), np.array(tags, float), np.array(moments)


def main() -> None:
    """Print."""
    from sklearn.ensemble import GradientBoostingClassifier

    known, tags, _ = middles("train")
    rows, truth, moments = middles("test")
    print(f"middle frames at u = {moments.mean():.3f}, from {moments.min():.3f} to {moments.max():.3f}")
    found = []
    for number, name in enumerate(MOVING):
        trees = GradientBoostingClassifier(n_estimators=60, max_depth=2, random_state=0)
        scores = trees.fit(known, tags[:, number]).predict_proba(rows)[:, 1]
        found.append(average_precision(truth[:, number], scores))
        print(f"{name}: {found[-1]:.3f}")
    print(f"mean: {np.mean(found):.3f}")
    draw = np.random.default_rng(0)
    chance = [
        np.mean([average_precision(truth[:, k], draw.random(len(truth))) for k in range(len(MOVING))])
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(chance, (0.025, 0.975))
    print(f"answers in random order: {np.mean(chance):.3f}, 95 % of them from {low:.3f} to {high:.3f}")


if __name__ == "__main__":
    main()
