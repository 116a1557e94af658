"""What a network that has learnt nested brackets holds: a heat map of its cells over a string.

    python examples/inside.py docs/pictures/inside.svg

trains for some seconds, prints how far the gradient reaches before and after, and draws the states.
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from elman.nn import LSTM, Embedding, Tagger
from elman.nn.inspection import alike_together, decays, most_varying, watch
from elman.page import activity_map

LETTERS = "()ab"
SHOWN = "a(b(ab)a((b)b)a)b((((a))))ab()(a(b)a)b(a)"


def strings(rows: int, steps: int = 40) -> Tensor:
    """Letters, and brackets that open as often as they close, `(T + 1, B)`."""
    found = []
    for _ in range(rows):
        depth, row = 0, []
        for _ in range(steps + 1):
            draw = float(torch.rand(()))
            if draw < 0.3 and depth < 4:
                depth, letter = depth + 1, 0
            elif draw < 0.6 and depth > 0:
                depth, letter = depth - 1, 1
            else:
                letter = 2 + int(draw > 0.8)
            row.append(letter)
        found.append(row)
    return torch.tensor(found).T


def main(picture: Path) -> None:
    torch.manual_seed(0)
    model = Tagger(Embedding(4, 8), LSTM(8, 16), 4)
    probe = strings(16)

    def loss(network: Tagger, x: Tensor) -> Tensor:
        return F.cross_entropy(network(x[:-1]).logits.flatten(0, 1), x[1:].flatten())

    before = decays(model, lambda own: loss(own, probe))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        loss(model, strings(16)).backward()
        optimizer.step()
    for when, found in (("before", before), ("after", decays(model, lambda own: loss(own, probe)))):
        print(when, *found)
    (track,) = watch(model, torch.tensor([[LETTERS.index(letter)] for letter in SHOWN]))
    name, values = track.memory
    units = most_varying(values, 12)
    units = [units[place] for place in alike_together(values[:, 0, units])]
    title = f"{track.name}: {name}, after reading each character"
    drawn = activity_map(values[:, 0, units].T.tolist(), units, list(SHOWN), title=title, signed=True)
    size = 'xmlns="http://www.w3.org/2000/svg" style="background: #fff"'
    picture.write_text(drawn.replace("<svg", f"<svg {size}", 1), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "inside.svg"))
