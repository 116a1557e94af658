"""The distribution elman-runtime: `python -m distributions.runtime_wheel FOLDER` writes its wheel.

It holds `elman.runtime`, the modules that this imports and nothing else, and the library elman_runtime, which it builds
(--library takes one that is built already). It needs numpy alone, and fits every Python from 3.11 on: the library is
opened by ctypes. It has modules of the distribution elman, and is installed in its place, not beside it: where
both are, what is missing says so.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
LIBRARY = "elman/libelman_runtime.so"
NUMPY, TOKENIZERS = "numpy>=2.0", "tokenizers>=0.21"
INIT = '''"""Frozen models of Elman without torch: `elman.runtime`. All else is in the distribution elman."""

__version__ = "{version}"


def __getattr__(name: str) -> object:
    """Say where it is."""
    from importlib.metadata import distributions

    both = any(found.metadata["Name"] == "elman" for found in distributions(name="elman"))
    mend = "pip uninstall elman elman-runtime, then pip install elman, in which elman.runtime is too"
    raise AttributeError(
        f"module 'elman' has no attribute {{name!r}}: this is elman-runtime, which runs frozen models; layers, "
        f"training and the command are in the distribution elman"
        + (f", which is installed too, with files of the same names that were written over: {{mend}}" if both else "")
    )
'''
METADATA = """Metadata-Version: 2.1
Name: elman-runtime
Version: {version}
Summary: Frozen recurrent networks of elman, run by numpy and a small compiled core
Requires-Python: >=3.11
Requires-Dist: {numpy}
Provides-Extra: bpe
Requires-Dist: {tokenizers}; extra == "bpe"
"""


def main(arguments: list[str] | None = None) -> int:
    """Write the wheel, and print where it is."""
    parser = argparse.ArgumentParser(prog="python -m distributions.runtime_wheel", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the wheel is written")
    parser.add_argument("--library", type=Path, help="libelman_runtime.so (default: it is built)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or _built(Path(folder))
        path = write_wheel(options.folder, library.read_bytes())
    sys.stdout.write(f"{path}\n")
    return 0


def write_wheel(folder: Path, library: bytes) -> Path:
    """The wheel with these bytes as its library; equal sources give equal bytes."""
    version, platform = _version(), sysconfig.get_platform().replace("-", "_").replace(".", "_")
    tag, info = f"py3-none-{platform}", f"elman_runtime-{version}.dist-info"
    files = {"elman/__init__.py": INIT.format(version=version).encode(), LIBRARY: library}
    files |= {
        str(p.relative_to(SOURCES)): p.read_bytes()
        for p in modules()
        if p != SOURCES / "elman" / "__init__.py"
    }
    said = {"version": version, "numpy": NUMPY, "tokenizers": TOKENIZERS}
    files[f"{info}/METADATA"] = METADATA.format(**said).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: elman\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    )
    files[f"{info}/licenses/LICENSE"] = (ROOT / "LICENSE").read_bytes()
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"elman_runtime-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    return path


def modules() -> list[Path]:
    """The files of `elman.runtime` and of what it imports, sorted."""
    waiting = [f"elman.runtime.{path.stem}" for path in (SOURCES / "elman" / "runtime").glob("*.py")]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop().removesuffix(".__init__")
        path = SOURCES.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.is_file():
            continue
        found[name] = path
        if name != "elman":
            waiting += [part for used in imported(path) for part in _with_parents(used)]
    return sorted(found.values())


def imported(path: Path) -> Iterator[str]:
    """All that a file imports when it runs, as `package.module` or `package.module.name`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        waiting += ast.iter_child_nodes(node)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:k]) for k in range(1, len(parts) + 1)] if parts[0] == "elman" else []


def _built(folder: Path) -> Path:
    for command in (
        ("cmake", "-S", ROOT, "-B", folder, "-DELMAN_RUNTIME_ONLY=ON"),
        ("cmake", "--build", folder, "--target", "elman_runtime_shared", "-j2"),
    ):
        subprocess.run([str(part) for part in command], check=True, stdout=sys.stderr)
    return (folder / "libelman_runtime.so").resolve()


def _version() -> str:
    text = (SOURCES / "elman" / "__init__.py").read_text(encoding="utf-8")
    return text.split('__version__ = "')[1].split('"')[0]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    sys.exit(main())
