"""The rules of the house that no other tool checks."""

import ast
import graphlib
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


def imported(path: Path, known: set[str]) -> set[str]:
    """The modules of the package that a file imports anywhere, also for its types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
    return found & known


def test_no_two_modules_import_each_other() -> None:
    """Below the tasks, whose base and verbs name each other's types."""
    names = {
        path: ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in SOURCES
    }
    known = {name for name in names.values() if name != "elman" and not name.startswith("elman.tasks")}
    graph = {name: imported(path, known) - {name} for path, name in names.items() if name in known}
    for name in known:
        # A package gathers its modules; a module that names one of its brothers names the package too.
        graph[name] -= {other for other in graph[name] if name.startswith(f"{other}.")}
    assert list(graphlib.TopologicalSorter(graph).static_order())


def test_private_names_stay_in_their_file() -> None:
    """But for the compiled core, whose module begins with a line (ruff says who opens it)."""
    taken = [
        f"{path.relative_to(ROOT)}:{node.lineno} {name.name}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "elman"
        for name in node.names
        if name.name.startswith("_") and name.name not in {"_core", "__version__"}
    ]
    assert not taken, f"give it a name without a line, or a home of its own: {taken}"
