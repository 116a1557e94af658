"""Build the core for browsers: src/elman/web/elman.wasm and elman_relaxed.wasm, by Emscripten (Debian: emscripten).

    python csrc/wasm/build.py

The same sources as the library elman_runtime but for memory and threads, which have plain ones here. Two modules: one
that any browser with SIMD runs, and one whose fused multiply-adds want relaxed SIMD. Objects are kept in build/wasm.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from opcodes import renumbered

CSRC = Path(__file__).parents[1]
ROOT = CSRC.parent
OBJECTS, WEB = ROOT / "build" / "wasm", ROOT / "src" / "elman" / "web"
KERNELS = CSRC / "simd" / "isa.cpp"
# Of the library elman_runtime what is replaced by wasm/memory.cpp, and what learns.
ELSEWHERE = {"memory", "sums", "entropy"}


def sources() -> list[Path]:
    """Those of the library, as CMakeLists.txt lists them, and what stands in the place of memory and threads."""
    lists = re.findall(
        r"add_library\(elman_(?:core|frozen) OBJECT ([^)]+)\)", (ROOT / "CMakeLists.txt").read_text()
    )
    listed = [ROOT / name for names in lists for name in names.split()]
    return [path for path in listed if path.stem not in ELSEWHERE] + sorted(CSRC.glob("wasm/*.cpp"))


COMPILE = [
    "-std=c++20", "-msimd128", "-fwasm-exceptions", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-Wall", "-Wextra", "-Wno-unused-private-field", f"-I{CSRC}", "-DELMAN_ISA_NAMESPACE=portable",
]  # fmt: skip
LINK = [
    "-Oz", "-msimd128", "-fwasm-exceptions", "-sSTANDALONE_WASM", "--no-entry", "-sALLOW_MEMORY_GROWTH",
    "-sINITIAL_MEMORY=4MB", "-sMAXIMUM_MEMORY=4GB", "-sTOTAL_STACK=1MB",
]  # fmt: skip
RELAXED = ["-mrelaxed-simd"]
# There are no files, and no environment.
NOT_THERE = {"elman_load", "elman_isa"}


def run(*command: str | Path) -> None:
    """A command, or the end of this one with what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode or "warning:" in done.stderr:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def compiled(source: Path, name: str, *flags: str) -> Path:
    """The object of a source; made anew where any source is newer."""
    to = OBJECTS / f"{name}.o"
    if not to.exists() or to.stat().st_mtime < NEWEST:
        run("em++", *COMPILE, *flags, f'-DELMAN_VERSION="{version()}"', "-c", source, "-o", to)
    return to


def version() -> str:
    """The version of the package."""
    found = re.search(r'^__version__ = "(\S+)"$', (ROOT / "src/elman/__init__.py").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def exported() -> str:
    """The functions of elman.h, as the linker wants them."""
    names = re.findall(r"^ELMAN_API [\w *]*?(elman_\w+)\(", (CSRC / "elman.h").read_text(), re.MULTILINE)
    return ",".join(f"_{name}" for name in [*names, "malloc", "free"] if name not in NOT_THERE)


def linked(name: str, objects: list[Path], *flags: str) -> None:
    """A module from objects, in its place once it is whole."""
    made = OBJECTS / f"{name}.wasm"
    run("em++", *LINK, *flags, f"-sEXPORTED_FUNCTIONS={exported()}", *objects, "-o", made)
    module = made.read_bytes()
    if flags:
        module, count = renumbered(module)
        print(f"{count} fused multiply-adds have the numbers of the standard")
    made.write_bytes(module)
    made.replace(WEB / made.name)
    print(f"{(WEB / made.name).relative_to(ROOT)}: {len(module):,} bytes")


NEWEST = max(path.stat().st_mtime for path in CSRC.rglob("*") if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    """Build both modules."""
    if shutil.which("em++") is None:
        sys.exit(
            "em++ is not here, which compiles for browsers: install Emscripten (Debian, Ubuntu: apt install emscripten)"
        )
    OBJECTS.mkdir(parents=True, exist_ok=True)
    workers = int(os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", os.cpu_count() or 1))
    with ThreadPoolExecutor(workers) as pool:
        # The kernels take longest; what is around them is loaded more often than it is run.
        kernels = pool.submit(compiled, KERNELS, "kernels", "-O2")
        relaxed = pool.submit(compiled, KERNELS, "kernels_relaxed", "-O2", *RELAXED)
        found = sources()
        named = [f"{path.parent.name}_{path.stem}" for path in found]
        others = list(pool.map(compiled, found, named, ["-Os"] * len(found)))
    linked("elman", [*others, kernels.result()])
    linked("elman_relaxed", [*others, relaxed.result()], *RELAXED)


if __name__ == "__main__":
    main()
