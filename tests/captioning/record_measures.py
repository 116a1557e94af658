"""What pycocoevalcap says to drawn captions, written to measures.json beside this file.

    pip install --no-deps --target FOLDER pycocoevalcap
    PYTHONPATH=FOLDER python tests/captioning/record_measures.py

It takes 104 MB, so it is no part of the development.
"""

import json
import random
from pathlib import Path
from typing import Any


def drawn(draw: random.Random) -> dict[str, Any]:
    """Some pictures' captions with their references, as words."""

    def said() -> list[str]:
        return draw.choices("abcdefgh", k=draw.randint(1, 9))

    references = [[said() for _ in range(draw.randint(1, 4))] for _ in range(draw.randint(2, 8))]
    answers = [
        draw.choice(own)[: draw.randint(1, 9)] if draw.random() < 0.5 else said() for own in references
    ]
    return {"answers": answers, "references": references}


def measured(one: dict[str, Any]) -> dict[str, Any]:
    """By the outside implementation."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    right = {i: [" ".join(words) for words in own] for i, own in enumerate(one["references"])}
    answers = {i: [" ".join(words)] for i, words in enumerate(one["answers"])}
    found = {
        "cider_d": [float(value) for value in Cider().compute_score(right, answers)[1]],
        "bleu": [100 * float(value) for value in Bleu(4).compute_score(right, answers, verbose=0)[0]],
        "rouge_l": [100 * float(value) for value in Rouge().compute_score(right, answers)[1]],
    }
    return {**one, **found}


if __name__ == "__main__":
    draw = random.Random(0)
    rows = [json.dumps(measured(drawn(draw))) for _ in range(10)]
    Path(__file__).with_name("measures.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
