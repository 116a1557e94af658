"""Reading text: what comes out, and what is said about bad files."""

import json
from pathlib import Path

import pytest

from elman.config import UserError
from elman.data.text import divide, read_texts, standard_library


def read(*paths: Path, glob: str = "**/*", field: str = "text") -> list[str]:
    return read_texts(map(str, paths), glob=glob, field=field)


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_file_is_one_document_with_plain_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthr\xc3\xa9\n")
    assert read(path) == ["one\ntwo\nthré\n"]


def test_a_folder_gives_its_text_files_by_name_and_passes_over_hidden_and_binary_ones(tmp_path: Path) -> None:
    write(tmp_path / "b.txt", "B")
    write(tmp_path / "a" / "z.py", "A")
    write(tmp_path / ".git" / "config", "hidden")
    write(tmp_path / "picture.png", b"\x89PNG\0\0\xff")
    write(tmp_path / "empty.py", "")
    assert read(tmp_path) == ["A", "B"]
    assert read(tmp_path, glob="**/*.py") == ["A"]


def test_json_lines_give_the_field_of_each_object(tmp_path: Path) -> None:
    lines = [json.dumps({"id": i, "body": text}) for i, text in enumerate(["one\ntwo", "drei"])]
    path = write(tmp_path / "a.jsonl", "\n".join(lines) + "\n\n")
    assert read(path, field="body") == ["one\ntwo", "drei"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "a.txt is empty"),
        (
            "a.txt",
            b"caf\xe9 au lait",
            "not UTF-8 text (byte 0xe9 at offset 3); convert it, for example: iconv",
        ),
        ("a.txt", b"PK\x03\x04\0\xff\xfe", "not text: it holds zero bytes"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', "a.jsonl:2 is not a JSON object"),
        ("a.jsonl", b'{"body": "one", "n": 1}\n', "a.jsonl:1 has no text under 'text'; its texts are body"),
        ("a.jsonl", b'{"text": 7}\n', "a.jsonl:1 has a int under 'text', not a text"),
        ("a.jsonl", b'["text"]\n', "a.jsonl:1 holds a list"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        read(path)
    assert says in str(error.value)


def test_a_missing_path_names_the_nearest_one(tmp_path: Path) -> None:
    write(tmp_path / "shakespeare.txt", "x")
    with pytest.raises(UserError, match=r"no such file or folder: .*did you mean .*shakespeare\.txt"):
        read(tmp_path / "shakespear.txt")


def test_a_folder_without_fitting_files_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "x")
    with pytest.raises(UserError, match=r"no file in .* fits --glob '\*\.txt'; it holds \.md \(1\)"):
        read(tmp_path, glob="*.txt")


def test_a_folder_of_empty_files_is_empty(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "")
    with pytest.raises(UserError, match="is empty"):
        read(tmp_path)


def test_the_standard_library_is_source_text() -> None:
    texts = standard_library()
    assert len(texts) > 100
    assert sum(map(len, texts)) > 3_000_000
    assert sum("\nimport " in text or "\nfrom " in text for text in texts) > len(texts) / 2


def test_few_documents_give_their_ends_cut_at_lines() -> None:
    text = "".join(f"line {i:03}\n" for i in range(100))
    division = divide([text, text], valid=0.1, test=0.2, seed=0)
    for train, valid, test in zip(*division, strict=True):
        assert train + valid + test == text
        assert [len(part) // 9 for part in (train, valid, test)] == [70, 10, 20]
        assert train.endswith("\n")
        assert valid.endswith("\n")


def test_a_text_without_lines_is_cut_anywhere() -> None:
    assert divide(["x" * 100], valid=0.1, test=0.1, seed=0) == (["x" * 80], ["x" * 10], ["x" * 10])


def test_no_shares_leave_all_to_training() -> None:
    assert divide(["a\nb"], valid=0.0, test=0.0, seed=0) == (["a\nb"], [], [])


def test_many_documents_are_drawn_whole_and_each_once() -> None:
    texts = [f"document {i} " + "x" * (10 * i) for i in range(50)]
    division = divide(texts, valid=0.1, test=0.1, seed=0)
    assert sorted([text for part in division for text in part]) == sorted(texts)
    total = sum(map(len, texts))
    for part in division[1:]:
        assert 0.1 * total <= sum(map(len, part)) < 0.2 * total
    assert divide(texts, valid=0.1, test=0.1, seed=0) == division
    assert divide(texts, valid=0.1, test=0.1, seed=1) != division
