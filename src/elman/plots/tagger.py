"""The blocks of a tagger that are no usual layers: words known by their letters, and a chain over the answers."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from elman.plots.blocks import PARAMETERS, indexed, spoken
from elman.plots.drawing import Block

__all__ = ["tagger_block"]


def tagger_block(module: nn.Module) -> tuple[Block, dict[str, Tensor]] | None:
    """The block of such a module, without its weights, and these by their names in it; None for any other module."""
    makers = {"SpelledWords": _words, "LinearChain": _chain}
    for c in type(module).__mro__:
        if c.__module__.startswith("elman.nn.") and c.__name__ in makers:
            return makers[c.__name__](module)
    return None


def _words(module: Any) -> tuple[Block, dict[str, Tensor]]:
    """E[w_t], what the letters say, and what the ends say, side by side."""
    parts, equations = ["row w_t of E"], []
    if module.speller is not None:
        parts.append("s_t")
        cell = type(module.speller.recurrent).__name__
        cell = type(module.speller.recurrent.cells[0]).__name__ if cell == "Recurrent" else cell
        both = ", both ways" if getattr(module.speller.recurrent, "bidirectional", False) else ""
        equations.append(f"s_t: {cell} over rows of E_c, its letters{both}")
    if module.affixes is not None:
        parts.append("a_t")
        equations.append(f"a_t = ∑ rows of F, first and last 1-{module.affixes.longest} letters")
    lost = module.words.word_dropout.p
    remarks = (f"in training, {100 * lost:.3g} % of the words become unknown to E",) if lost else ()
    block = Block(
        "words and letters",
        "embedding",
        module.output_size,
        module.output_size,
        "I",
        equations=(f"y_t = [{' ; '.join(parts)}]" if len(parts) > 1 else "row w_t of E", *equations),
        remarks=remarks,
    )
    return block, {_name(key): p for key, p in module.named_parameters()}


def _name(key: str) -> str:
    """E, E_c, F, and what the layers over letters have, with a c below it."""
    fixed = {"words.weight": "E", "speller.letters.weight": "E_c", "affixes.weight": "F"}
    if key in fixed:
        return fixed[key]
    last = key.rsplit(".", 1)[-1]
    layer = re.search(r"_l(\d+)", last)
    back = "_reverse" in last or ".cells.1." in key
    plain = re.sub(r"_l\d+|_reverse", "", last)
    letter, below, _ = PARAMETERS.get(plain, (spoken(key.removeprefix("speller.")), "", "scale"))
    number = str(int(layer[1]) + 1) if layer and layer[1] != "0" else ""
    return indexed(letter + ("′" if back else ""), below, "c", number)


def _chain(module: Any) -> tuple[Block, dict[str, Tensor]]:
    """p of all tags of a sentence."""
    block = Block(
        "linear chain",
        "other",
        module.tags,
        module.tags,
        equations=(
            "∑ x_t[k_t] + ∑ A[k_{t−1}, k_t] + a[k_1] + e[k_T]",
            "p(k) = exp of that / Z,  Z over all k",
        ),
    )
    names = {"recursion.cells.0.transitions": "A", "start": "a", "end": "e"}
    return block, {names[key]: p for key, p in module.named_parameters()}
