"""Damaged, cut off, foreign and newer files: each one sentence, none loaded as something else, none a crash."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
import torch

from elman import nn as en
from elman.frozen import frozen_bytes
from elman.runtime import Frozen, FrozenError, load

MUTATIONS = 400


@pytest.fixture(scope="module")
def whole() -> bytes:
    torch.manual_seed(0)
    network = en.SequenceClassifier(
        en.Embedding(7, 3), en.LSTM(3, 4, bidirectional=True), 2, pooling="last+mean", norm="layer"
    )
    return frozen_bytes(network)


def resummed(data: bytes) -> bytes:
    """The file with the checksum that its bytes have."""
    start = data.index(b'"checksum":"crc32:') + len(b'"checksum":"crc32:')
    blank = data[:start] + b"0" * 8 + data[start + 8 :]
    return data[:start] + f"{zlib.crc32(blank):08x}".encode() + data[start + 8 :]


def parts(data: bytes) -> tuple[dict, dict, bytes]:
    """The header, the model in it, the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    return header, json.loads(header["__metadata__"]["model"]), data[end:]


def joined(header: dict, model: dict, tensors: bytes) -> bytes:
    header["__metadata__"]["model"] = json.dumps(model)
    header["__metadata__"]["checksum"] = "crc32:" + "0" * 8
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % 64)
    return resummed(len(text).to_bytes(8, "little") + text + tensors)


def refusal(data: bytes) -> str:
    with pytest.raises(FrozenError) as error:
        Frozen(data)
    said = str(error.value)
    assert said
    assert "\n" not in said
    return said


def test_what_is_whole_is_read(whole: bytes) -> None:
    assert Frozen(whole).outputs[0].shape == (2,)
    assert Frozen(joined(*parts(whole))).outputs[0].shape == (2,)


def test_drawn_mutations(whole: bytes) -> None:
    """Bytes changed, put in, left out, swapped; every one of them is seen, wherever it is."""
    draw = np.random.default_rng(20261126)
    header = 8 + int.from_bytes(whole[:8], "little")
    for i in range(MUTATIONS):
        data = bytearray(whole)
        at = int(draw.integers(header if i % 3 else len(whole)))  # most of them in the header
        kind = draw.integers(5)
        if kind == 0:
            data[at] ^= 1 << int(draw.integers(8))
        elif kind == 1:
            data[at] = int(draw.integers(256))
        elif kind == 2:
            data[at:at] = draw.bytes(int(draw.integers(1, 9)))
        elif kind == 3:
            del data[at : at + int(draw.integers(1, 9))]
        else:
            other = int(draw.integers(header))
            data[at], data[other] = data[other], data[at]
        if bytes(data) != whole:
            refusal(bytes(data))


def test_every_place_where_it_can_be_cut(whole: bytes) -> None:
    for end in [*range(64), *range(64, len(whole), 97), len(whole) - 1]:
        refusal(whole[:end])
    refusal(whole + b"\0")


def test_headers_that_lie_crash_nothing(whole: bytes) -> None:
    """With a checksum that fits, a header may say anything: it is refused, or it is a model that runs."""
    draw = np.random.default_rng(20261127)
    refused = 0
    for _ in range(MUTATIONS):
        header, model, tensors = parts(whole)
        for _ in range(int(draw.integers(1, 4))):
            names = [name for name in header if name != "__metadata__"]
            mutate(model if draw.random() < 0.9 else header[names[int(draw.integers(len(names)))]], draw)
        try:
            frozen = Frozen(joined(header, model, tensors))
        except FrozenError as error:
            refused += 1
            assert "\n" not in str(error)
            continue
        shapes = [a.shape for a in (*frozen.inputs, *frozen.outputs, *frozen.states)]
        if max((int(np.prod(shape)) for shape in shapes), default=0) < 1 << 16:
            try_to_run(frozen)
    assert refused > MUTATIONS // 2


def try_to_run(frozen: Frozen) -> None:
    x = [np.zeros((3, 2, *a.shape), a.dtype) for a in frozen.inputs]
    context = [np.zeros((2, *a.shape), a.dtype) for a in frozen.contexts]
    if x:
        frozen.run(*x, context=context)
    if x and frozen.can_step:
        frozen.stream(2, context=context)(*[v[0] for v in x])


def mutate(tree: object, draw: np.random.Generator) -> None:
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
            [],
            {},
            [0],
            value,
        ]
        if isinstance(value, int) and not isinstance(value, bool):
            choices += [value + 1, value - 1, value * 2] * 4
        if draw.random() < 0.1 and isinstance(tree, dict):
            del tree[key]
        else:
            tree[key] = choices[int(draw.integers(len(choices)))]
        return


def test_a_newer_form_and_what_a_newer_version_may_have_written(whole: bytes) -> None:
    newer = whole.replace(b'"elman.frozen":"1"', b'"elman.frozen":"2"')
    assert refusal(newer) == (
        "the file is a frozen model of form 2, and this library reads form 1: take a newer one, or freeze the model "
        "anew"
    )
    for change, said in (
        (
            lambda m: m["stages"][1]["code"][0].__setitem__(0, "fft"),
            "the operation fft, which this library does not know",
        ),
        (lambda m: m["stages"][0].__setitem__("kind", "convolution"), "a stage of the kind convolution"),
        (lambda m: m.__setitem__("type", "int4"), "the type int4"),
    ):
        header, model, tensors = parts(whole)
        change(model)
        assert said in refusal(joined(header, model, tensors))


@pytest.mark.parametrize(
    "data", [b"", b"elman", b"\0" * 100, b"{}" * 50, (2).to_bytes(8, "little") + b"{}", b"PK\x03\x04" * 30]
)
def test_other_files(data: bytes) -> None:
    assert refusal(data).startswith("the file is damaged or no frozen model: ")


def test_files_that_are_not_there(tmp_path) -> None:
    with pytest.raises(FrozenError, match="cannot be read: No such file or directory"):
        load(tmp_path / "nothing")
    with pytest.raises(FrozenError, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_weights_are_told_by_their_type(whole: bytes) -> None:
    header, model, tensors = parts(whole)
    name = model["stages"][0]["table"]
    header[name]["dtype"] = "I32"
    assert "is of the type I32" in refusal(joined(header, model, tensors))
    header[name]["dtype"], header[name]["shape"] = "F32", [3, 7]
    assert "a table does not fit" in refusal(joined(header, model, tensors))
