"""A frozen model with a program in C that runs it: a folder that is ready to be compiled."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

__all__ = ["write_program"]

CMAKE = """# The model of {name} with a program that runs it, against an installed library elman_runtime:
#     cmake -S . -B build -DCMAKE_PREFIX_PATH=/usr/local && cmake --build build && build/main < numbers
cmake_minimum_required(VERSION 3.18)
project(model LANGUAGES C CXX)
set(CMAKE_C_STANDARD 99)

find_package(elman_runtime CONFIG REQUIRED)
find_package(Threads REQUIRED)
add_executable(main main.c)
target_link_libraries(main PRIVATE elman::runtime_STATIC Threads::Threads ${{CMAKE_DL_LIBS}})
set_target_properties(main PROPERTIES LINKER_LANGUAGE CXX)
configure_file(model.elman ${{CMAKE_CURRENT_BINARY_DIR}}/model.elman COPYONLY)
"""
MAKE = """# The model of {name} with a program that runs it: make PREFIX=/usr/local && ./main < numbers
PREFIX ?= /usr/local
CFLAGS ?= -O2

main: main.c
	$(CC) -std=c99 $(CFLAGS) -c main.c -I$(PREFIX)/include -o main.o
	$(CXX) main.o $(PREFIX)/lib/libelman_runtime.a -lpthread -ldl -o main

clean:
	rm -f main main.o
"""
FILES = ("main.c", "CMakeLists.txt", "Makefile", "model.elman")
# How the texts among them begin.
BEGINNINGS = {
    "main.c": "/* Runs a frozen model",
    "CMakeLists.txt": "# The model of ",
    "Makefile": "# The model of ",
}


def write_program(folder: Path, write_model: Callable[[Path], None]) -> None:
    """Write model.elman, by `write_model`, main.c, CMakeLists.txt and a Makefile into a new folder, or over them.

    Raises FileExistsError for a folder with other files, which stay as they are.
    """
    if folder.exists() and not (folder.is_dir() and all(map(_ours, folder.iterdir()))):
        raise FileExistsError(17, "there is something else of this name", str(folder))
    name = folder.name
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        write_model(Path(made) / "model.elman")
        main = resources.files("elman.frozen").joinpath("main.c").read_bytes()
        (Path(made) / "main.c").write_bytes(main)
        (Path(made) / "CMakeLists.txt").write_text(CMAKE.format(name=name), encoding="utf-8")
        (Path(made) / "Makefile").write_text(MAKE.format(name=name), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        for file in FILES:
            shutil.move(Path(made) / file, folder / file)


def _ours(path: Path) -> bool:
    """Whether a file is one that `write_program` wrote."""
    begins = BEGINNINGS.get(path.name, "").encode()
    return path.name in FILES and path.is_file() and path.read_bytes()[: len(begins)] == begins
