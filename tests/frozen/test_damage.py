"""Damaged, cut off, foreign and newer files: each one sentence, none loaded as something else, none a crash."""

from __future__ import annotations

import numpy as np
import pytest

from elman.runtime import Frozen, FrozenError, load
from tests.frozen.fuzzing import damaged, files, joined, lying, main, parts, read

DRAWS = 120
FILES = files()


@pytest.fixture(scope="module")
def whole() -> bytes:
    return FILES["classifier"]


@pytest.fixture(scope="module")
def small() -> bytes:
    """With matrices in eight bits."""
    return FILES["classifier in eight bits"]


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


@pytest.mark.parametrize("name", FILES)
def test_drawn_damages(name: str) -> None:
    """Every one of them is seen, wherever it is."""
    draw, own = np.random.default_rng(20261126), FILES[name]
    for data in (damaged(own, draw) for _ in range(DRAWS)):
        assert data == own or read(data) is not None


@pytest.mark.parametrize("name", FILES)
def test_headers_that_lie_crash_nothing(name: str) -> None:
    """With a checksum that fits, a header may say anything: it is refused, or it is a model that runs."""
    draw = np.random.default_rng(20261127)
    said = [read(lying(FILES[name], draw)) for _ in range(DRAWS)]
    assert sum(one is not None for one in said) > DRAWS // 2


@pytest.mark.slow
def test_thousands_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["3000", "7"]) == 0
    assert capsys.readouterr().out.count("3,000 of 3,000 refused") == len(FILES)


def test_every_place_where_it_can_be_cut(whole: bytes) -> None:
    for end in [*range(64), *range(64, len(whole), 97), len(whole) - 1]:
        refusal(whole[:end])
    refusal(whole + b"\0")


def test_a_newer_form_and_what_a_newer_version_may_have_written(whole: bytes) -> None:
    newer = whole.replace(b'"elman.frozen":"1"', b'"elman.frozen":"3"')
    assert refusal(newer) == (
        "the file is a frozen model of form 3, and this library reads forms 1 and 2: take a newer one, or freeze the "
        "model anew"
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


def test_matrices_in_eight_bits_are_what_they_say(small: bytes) -> None:
    header, model, tensors = parts(small)
    name, told = next(iter(model["eight_bits"].items()))
    scales, (rows, columns) = told["scales"], header[name]["shape"]
    assert header[name]["dtype"] == "I8"
    assert Frozen(joined(header, model, tensors)).outputs[0].shape == (2,)
    for axis, dtype, shape, said in (
        (2, "I8", [rows, columns], f"tensor {name} is no matrix of eight bits"),
        (-1, "I8", [rows, columns], f"tensor {name} is no matrix of eight bits"),
        (told["axis"], "I8", [rows * columns], f"tensor {name} is no matrix of eight bits"),
        (1 - told["axis"], "I8", [rows, columns], f"tensor {name} has other scales"),
        (told["axis"], "I8", [columns, rows], f"tensor {name} has other scales"),
        (told["axis"], "F32", [rows, columns], f"tensor {name} does not lie in the file"),
    ):
        header[name] |= {"dtype": dtype, "shape": shape}
        model["eight_bits"][name] = {"scales": scales, "axis": axis}
        assert said in refusal(joined(header, model, tensors))
    header, model, tensors = parts(small)
    model["eight_bits"][name]["scales"] = name
    assert f"tensor {name} has other scales" in refusal(joined(header, model, tensors))
    model["eight_bits"] = {"nothing": told}
    assert "it has no tensor nothing" in refusal(joined(header, model, tensors))
    del model["eight_bits"]
    assert "eight_bits" in refusal(joined(header, model, tensors))
    # As a file of form 1 it has matrices of whole numbers, of which no stage knows.
    header, model, tensors = parts(small)
    header["__metadata__"]["elman.frozen"] = "1"
    assert refusal(joined(header, model, tensors))


def test_matrices_that_lie_on_one_another_take_no_memory(small: bytes) -> None:
    header, model, tensors = parts(small)
    name, told = next(iter(model["eight_bits"].items()))
    rows, columns = header[name]["shape"]
    for i in range(1 + 2 * (len(small) + 10**6) // (rows * columns)):
        header[f"more{i}"] = header[name]
        model["eight_bits"][f"more{i}"] = told
        if i == 3:
            assert Frozen(joined(dict(header), dict(model), tensors)).outputs[0].shape == (2,)
    # A long header makes a large file: of it eight times as much is allowed, and no more.
    header[name]["data_offsets"], header[name]["shape"] = [0, len(tensors)], [rows, len(tensors) // rows]
    assert refusal(joined(header, model, tensors))


def test_a_sentence_is_one_line(whole: bytes) -> None:
    header, model, tensors = parts(whole)
    model["stages"][0]["kind"] = "two\nlines\tand more"
    assert "a stage of the kind two lines and more" in refusal(joined(header, model, tensors))
    # Bytes that are no text at all, where the header is quoted; and a text that is cut off within a letter.
    for words in (b"\xd2 \xff", b"\xc3" * 9, "\u00e9\u2603".encode() * 300, b"\xf0\x9f\x98"):
        at = whole.index(b'"elman.frozen":"1"') + len(b'"elman.frozen":"')
        said = refusal(whole[:at] + words + whole[at:])
        assert all(letter.isprintable() for letter in said)
