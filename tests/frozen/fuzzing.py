"""Damaged files, and files that lie: as many as wanted. `python -m tests.frozen.fuzzing 5000` draws so many of each.

tests/sanitize.sh runs it on the core under the sanitizers, where a read of foreign memory ends the process.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import elman
from elman import nn as en
from elman.frozen import frozen_bytes
from elman.runtime import Frozen, FrozenError

__all__ = ["damaged", "files", "joined", "lying", "mutate", "parts", "read", "resummed", "try_to_run"]

LARGEST = 1 << 16  # numbers of an array, of models that are run


def files() -> dict[str, bytes]:
    """One file of each kind of stage; with whole numbers in eight bits too."""
    torch.manual_seed(0)
    classifier = en.SequenceClassifier(
        en.Embedding(7, 3), en.LSTM(3, 4, bidirectional=True), 2, pooling="last+mean", norm="layer"
    )
    words = en.SpelledWords(
        en.Embedding(9, 3), en.Speller(en.Embedding(5, 2), en.GRU(2, 3)), en.Affixes(2, count=8)
    )
    tagger, example = (
        en.Tagger(words, en.GRU(words.output_size, 4), 3),
        torch.zeros(1, 1, 5, dtype=torch.int64),
    )
    return {
        "classifier": frozen_bytes(classifier),
        "tagger": frozen_bytes(tagger, example=example),
        "layer": frozen_bytes(elman.LSTM(3, 4, num_layers=2).double()),
        "classifier in eight bits": frozen_bytes(classifier, int8=True),
        "tagger in eight bits": frozen_bytes(tagger, example=example, int8=True),
    }


def damaged(whole: bytes, draw: np.random.Generator) -> bytes:
    """Bytes changed, put in, left out, swapped; most of them in the header."""
    data = bytearray(whole)
    header = 8 + int.from_bytes(whole[:8], "little")
    at = int(draw.integers(header if draw.random() < 2 / 3 else len(whole)))
    kind = draw.integers(6)
    if kind == 0:
        data[at] ^= 1 << int(draw.integers(8))
    elif kind == 1:
        data[at] = int(draw.integers(256))
    elif kind == 2:
        data[at:at] = draw.bytes(int(draw.integers(1, 9)))
    elif kind == 3:
        del data[at : at + int(draw.integers(1, 9))]
    elif kind == 4:
        del data[at:]
    else:
        other = int(draw.integers(header))
        data[at], data[other] = data[other], data[at]
    return bytes(data)


def lying(whole: bytes, draw: np.random.Generator) -> bytes:
    """The same with a header that says something else, and a checksum that fits."""
    header, model, tensors = parts(whole)
    for _ in range(int(draw.integers(1, 4))):
        names = [name for name in header if name != "__metadata__"]
        told: Any = model if draw.random() < 0.85 else header[names[int(draw.integers(len(names)))]]
        if isinstance(model.get("eight_bits"), dict) and draw.random() < 0.2:
            told = model["eight_bits"]
        mutate(told, draw)
    if draw.random() < 0.1:
        form = ["1", "2", "3", "", "12"][int(draw.integers(5))]
        header["__metadata__"]["elman.frozen"] = form
    return joined(header, model, tensors)


def resummed(data: bytes) -> bytes:
    """The file with the checksum that its bytes have."""
    start = data.index(b'"checksum":"crc32:') + len(b'"checksum":"crc32:')
    blank = data[:start] + b"0" * 8 + data[start + 8 :]
    return data[:start] + f"{zlib.crc32(blank):08x}".encode() + data[start + 8 :]


def parts(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """The header, the model in it, the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return header, json.loads(header["__metadata__"]["model"]), data[end:]


def joined(header: dict[str, Any], model: dict[str, Any], tensors: bytes) -> bytes:
    """A file of them."""
    header["__metadata__"]["model"] = json.dumps(model)
    header["__metadata__"]["checksum"] = "crc32:" + "0" * 8
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return resummed(len(text).to_bytes(8, "little") + text + tensors)


def mutate(tree: Any, draw: np.random.Generator) -> None:
    """One leaf, somewhere, becomes another one."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = keys[int(draw.integers(len(keys)))]
        value = tree[key]
        if isinstance(value, dict | list) and draw.random() < 0.9:
            tree = value
            continue
        choices = [
            -1,
            0,
            1,
            2,
            3,
            7,
            70_000,
            1 << 62,
            0.5,
            True,
            None,
            "",
            "gemm",
            "copy",
            "I8",
            "F32",
            [],
            {},
            [0],
            value,
        ]
        if isinstance(value, int) and not isinstance(value, bool):
            choices += [value + 1, value - 1, value * 2] * 4
        if isinstance(value, str):
            # A name of something else of the same kind.
            choices += [v for v in (tree.values() if isinstance(tree, dict) else tree) if isinstance(v, str)]
        if draw.random() < 0.1 and isinstance(tree, dict):
            del tree[key]
        else:
            tree[key] = choices[int(draw.integers(len(choices)))]
        return


def read(data: bytes) -> str | None:
    """What is said of a file, one sentence; None where it is a model, which is run then."""
    try:
        frozen = Frozen(data)
    except FrozenError as error:
        said = str(error)
        assert said, "refused without a word"
        assert "\n" not in said, said
        return said
    shapes = [a.shape for a in (*frozen.inputs, *frozen.outputs, *frozen.states)]
    if max((int(np.prod(shape)) for shape in shapes), default=0) < LARGEST:
        try_to_run(frozen)
    return None


def try_to_run(frozen: Frozen) -> None:
    """Whole sequences and a step, on zeros: numbers, or a sentence."""
    x = [np.zeros((3, 2, *a.shape), a.dtype) for a in frozen.inputs]
    context = [np.zeros((2, *a.shape), a.dtype) for a in frozen.contexts]
    if not x:
        return
    try:
        frozen.run(*x, context=context)
        if frozen.can_step:
            frozen.stream(2, context=context)(*[v[0] for v in x])
    except FrozenError as error:
        assert "\n" not in str(error)


def counts(name: str, whole: bytes, count: int, seed: int) -> Iterator[str]:
    """Draws `count` damages and as many lies; what came of them, in lines."""
    draw = np.random.default_rng(seed)
    # Or nothing is read at all: a library that cannot be loaded refuses everything.
    assert read(whole) is None, read(whole)
    for kind, drawn in (("damaged", damaged), ("lying", lying)):
        loaded = 0
        for _ in range(count):
            data = drawn(whole, draw)
            loaded += read(data) is None and data != whole
        assert not (kind == "damaged" and loaded), "a damaged file was loaded"
        yield f"{name}, {kind}: {count - loaded:,} of {count:,} refused, {loaded:,} are models that run"


def main(arguments: list[str] | None = None) -> int:
    """COUNT [SEED]: a few thousand of each take a minute without sanitizers."""
    given = [int(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    count, seed = (given[0] if given else 2000), (given[1] if given[1:] else 20261127)
    for name, whole in files().items():
        for line in counts(name, whole, count, seed):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
