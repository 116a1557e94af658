"""The rules of the house that no other tool checks."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "elman").rglob("*.py"))
LONGEST_FILE = 550
LONGEST_FUNCTION = 80
USUAL_FUNCTION = 35


def functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        (
            f"{path.relative_to(ROOT)}:{node.lineno} {node.name}",
            (node.end_lineno or node.lineno) - node.lineno + 1,
        )
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_functions_are_short() -> None:
    sizes = [size for path in SOURCES for size in functions(path)]
    giants = [size for size in sizes if size[1] > LONGEST_FUNCTION]
    assert not giants, f"split by noun: {giants}"
    usual = sum(lines <= USUAL_FUNCTION for _, lines in sizes) / len(sizes)
    assert usual >= 0.9, f"{usual:.0%} of the functions have at most {USUAL_FUNCTION} lines"


def test_files_are_short() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES
    }
    giants = {name: lines for name, lines in sizes.items() if lines > LONGEST_FILE}
    assert not giants, f"split by noun: {giants}"


def test_no_drawers() -> None:
    drawers = {"utils", "util", "helpers", "helper", "misc", "common"}
    assert not [path for path in SOURCES if path.stem in drawers or path.parent.name in drawers]
