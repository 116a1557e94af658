"""What the documentation states and a machine can check: floors, files, who opens the core, the glossary."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# A page may name a file from where it lies, from the root, or from the part of the tree that it speaks of.
HOMES = [
    "tests/engine_rules",
    "",
    "src/elman",
    "src/elman/engine",
    "src/elman/engine/backends",
    "src/elman/data",
    "src/elman/tasks",
    "csrc",
    "docs/pictures/learn",
]
NAMED = re.compile(r"(?<![\w/*<{.:-])((?:[\w.-]+/)*[\w-]+\.(?:py|pyi|cpp|h|md|sh|svg))\b(?![:*(/])")
# Files of the reader's own, in examples.
EXAMPLES = {
    "cells.py",
    "my_cells.py",
    "mycells.py",
    "cell.py",
    "basic.svg",
    "unfolded.svg",
    "text.py",
    "learning_curve.svg",
}


def layers(name: str) -> list[set[str]]:
    """The floors of a contract, highest first, without those that may be missing."""
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    (found,) = [contract["layers"] for contract in contracts if contract["name"] == name]
    floors = [{part.strip() for part in layer.split("|")} for layer in found]
    return [kept for floor in floors if (kept := {part for part in floor if not part.startswith("(")})]


def stated(start: str) -> list[set[str]]:
    """The floors that ARCHITECTURE.md states in the lines that begin with `start`."""
    block = ARCHITECTURE[ARCHITECTURE.index("## Floors") :]
    text = block[block.index(f"    {start}") :].split("\n\n")[0]
    lines = [line for line in text.split("\n") if line.startswith("    ")]
    chosen = [lines[0]]
    for line in lines[1:]:
        if not line.lstrip().startswith(">"):
            break
        chosen.append(line)
    floors = " ".join(chosen).partition(": ")[2] or " ".join(chosen)
    return [{part.strip() for part in floor.split("|")} for floor in floors.split(">")]


FOLDERS = sorted(path.parent.name for path in (ROOT / "src/elman/engine").glob("*/__init__.py"))


@pytest.mark.parametrize(
    ("contract", "start"),
    [
        ("Floors of the package", "__main__ >"),
        ("Floors of the engine", "freeze | packed | printing >"),
        *((f"Floors of the engine's {folder}", f"{folder}: ") for folder in FOLDERS),
    ],
)
def test_the_floors_are_those_of_the_contracts(contract: str, start: str) -> None:
    assert stated(start) == layers(contract)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"https?://\S+", "", page.read_text(encoding="utf-8"))
    named = {
        name for name in NAMED.findall(text) if not re.search(r"\b[A-Z]{3,}\b", name.rsplit("/", 1)[0] + "/")
    }
    named = {name for name in named if "NAME" not in name} - EXAMPLES
    homes = [ROOT / home for home in HOMES] + [page.parent]
    known = {path.name for path in (ROOT / "src").rglob("*.py")} if page.name == "ARCHITECTURE.md" else set()
    missing = sorted(
        name for name in named if name not in known and not any((home / name).exists() for home in homes)
    )
    assert not missing


def test_who_opens_the_core() -> None:
    lint = PYPROJECT["tool"]["ruff"]["lint"]
    (file,) = [name for name, codes in lint["per-file-ignores"].items() if codes == ["TID251"]]
    module = file.removeprefix("src/").removesuffix(".py").replace("/", ".")
    assert f"only `{module}` opens the compiled core" in (ROOT / "CONTRIBUTING.md").read_text(
        encoding="utf-8"
    )
    assert "`backends/kernel.py` opens the compiled core" in ARCHITECTURE


def test_every_dependency_has_its_reason() -> None:
    names = [re.split(r"[<>=\[]", entry)[0] for entry in PYPROJECT["project"]["dependencies"]]
    table = ARCHITECTURE[ARCHITECTURE.index("## Dependencies") :].split("\n## ")[0]
    assert [name for name in names if f"| {name} |" not in table] == []


def test_where_tests_lie() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `tests/(\w+)/`", text, re.MULTILINE))
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("test_*.py"))}
    mirrored = {path.stem for path in (ROOT / "src/elman").iterdir()} | {
        path.stem for path in (ROOT / "src/elman/tasks").iterdir()
    }
    assert folders - mirrored <= listed
    assert listed <= folders


def test_the_glossary_is_in_order_and_says_each_word_once() -> None:
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*([^*]+)\*\* \|", text, re.MULTILINE)
    assert len(words) >= 20
    assert words == sorted(set(words), key=str.lower)


def test_the_citation_is_of_this_version() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    package = re.search(
        r'^__version__ = "(\S+)"$', (ROOT / "src/elman/__init__.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert cited and package and cited[1] == package[1]
