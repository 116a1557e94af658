"""Texts to numbers and back in JavaScript, as in Python."""

from __future__ import annotations

import random

import pytest

from elman.data import vocabulary
from elman.data.words import Lexicon
from tests.web.node import WEB, needs_node, script

WRITTEN = [
    "It was the 'best' of times, wasn't it?  I'll  go.\n\nNaïve café Ω σς 日本 12½ ²x\tend\r\n",
    "don't can't Don\u2019t N'T it's ΑΣ İstanbul \u017f_under 3rd a\x1cb\x85c \u3000 👩\u200d👧 !!",
    " ", "", "\n", "x\ny z \n", "\ufeffmark",
]  # fmt: skip
LETTERS = "ab'nt \u2019\n\t é日Σ1½_-.!👧 sdmrevl\u00a0\x85\x1c"

TOKENS = """
import { readFileSync } from "node:fs";
const { script, texts, jobs } = JSON.parse(readFileSync(0, "utf8"));
const { tokenizer } = await import(script.replace("elman.js", "texts.js"));
console.log(JSON.stringify(jobs.map(({ saved, ids }) => {
  const codec = tokenizer(saved), spelled = (row, before) => {
    const stream = codec.stream(before);
    return row.map((token) => stream.push(token)).join("") + stream.close();
  };
  const [texts_of, after] = ["", "x"].map((before) => ids.map((row) => spelled(row, before)));
  return { start: codec.start, ids: texts.map(codec.encode), texts: texts_of, after };
})));
"""

SPANS = """
import { readFileSync } from "node:fs";
const { script, texts, jobs } = JSON.parse(readFileSync(0, "utf8"));
const { lexicon } = await import(script.replace("elman.js", "texts.js"));
console.log(JSON.stringify(jobs.map((saved) => {
  const read = lexicon(saved), place = (text, at) => [...text.slice(0, at)].length;
  const told = (text) => ({ word, start, end, number }) => [word, place(text, start), place(text, end), number];
  return texts.map((text) => read(text).map(told(text)));
})));
"""


def drawn() -> list[str]:
    chance = random.Random(0)
    return WRITTEN + [
        "".join(chance.choice(LETTERS) for _ in range(chance.randrange(1, 40))) for _ in range(300)
    ]


@needs_node
@pytest.mark.parametrize("kind", list(vocabulary.KINDS))
def test_a_tokenizer_has_the_same_numbers_and_texts(kind: str) -> None:
    texts = drawn()
    size = 400 if kind == "bpe" else 0
    # Some that it has seen, and some that it has not.
    made = [
        vocabulary.learn(
            kind, texts[: len(texts) // 2] * 3, size=size, min_count=1, marked=marked, apart=marked
        )
        for marked in (False, True)
    ]
    ids = [[codec.encode(text).tolist() for text in texts] for codec in made]
    jobs = [{"saved": vocabulary.to_json(codec), "ids": own} for codec, own in zip(made, ids, strict=True)]
    for codec, own, found in zip(made, ids, script(TOKENS, texts=texts, jobs=jobs), strict=True):
        marks = [] if codec.mark is None else [codec.mark]
        assert found["start"] == codec.start
        assert found["ids"] == own
        assert found["texts"] == [codec.decode(row) for row in own]
        stream = [codec.stream("x") for _ in own]
        assert found["after"] == [
            "".join(s.push(t) for t in row) + s.close() for s, row in zip(stream, own, strict=True)
        ]
        assert script(TOKENS, texts=[], jobs=[{"saved": vocabulary.to_json(codec), "ids": [marks]}])[0][
            "texts"
        ] == [codec.decode(marks)]


@needs_node
@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("lower", [True, False])
def test_a_lexicon_has_the_same_words_and_numbers(unit: str, lower: bool) -> None:
    texts = drawn()
    known = Lexicon.learn(texts, unit=unit, lower=lower, size=60)
    (found,) = script(SPANS, texts=texts, jobs=[known.to_json()])
    encode = known.encoder()
    for text, row in zip(texts, found, strict=True):
        spans = known.spans(text)
        # A straight apostrophe may stand for another one, in its place.
        assert [(start, end) for _, start, end, _ in row] == [(s.start, s.end) for s in spans]
        assert [number for *_, number in row] == encode(text).tolist()
    assert WEB.is_dir()
