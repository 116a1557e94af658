#!/bin/bash
# The compiled core under sanitizers: addresses and undefined behaviour through the tests of the core and the engine,
# races through a program of its own (tests/core/races.cpp), which must also find a planted one.
#   tests/sanitize.sh [pytest arguments]
# Without arguments frozen files are damaged and made to lie too, FUZZ of each (default 1000), and the reader must say so.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
CMAKE=${CMAKE:-$(PATH=".venv/bin:$PATH" command -v cmake)}
CXX=${CXX:-g++}

build() {  # build FOLDER SANITIZERS
  "$CMAKE" -S . -B "build/$1" -DELMAN_SANITIZE="$2" -DPython_EXECUTABLE="$PWD/$PYTHON" -DCMAKE_CXX_COMPILER="$CXX" >"build/$1.log"
  "$CMAKE" --build "build/$1" -j2 >>"build/$1.log" || { cat "build/$1.log"; exit 1; }
}

# GCC's thread sanitizer needs the memory layout without randomisation on newer kernels.
races() {
  TSAN_OPTIONS="halt_on_error=0 exitcode=66" setarch "$(uname -m)" -R build/tsan/elman_races "$@"
}

mkdir -p build
echo "== races"
build tsan thread
races
if races --plant >build/planted.log 2>&1 || ! grep -q "data race" build/planted.log; then
  echo "the planted race was not found: build/planted.log" >&2
  exit 1
fi
echo "a planted race is found"

echo "== addresses and undefined behaviour"
build asan address,undefined
ELMAN_CORE=$(echo "$PWD"/build/asan/_core*.so)
ELMAN_RUNTIME=$ELMAN_CORE
export ELMAN_CORE ELMAN_RUNTIME PYTEST_PLUGINS=tests.core.sanitized PYTHONMALLOC=malloc OMP_NUM_THREADS=1
# Python keeps memory at exit on purpose; torch's own libraries are not looked at.
# Reports go to files, because pytest keeps what a test prints and a sanitizer ends the process.
REPORT=$PWD/build/sanitizer
rm -f "$REPORT".*
export ASAN_OPTIONS=detect_leaks=0:detect_odr_violation=0:log_path=$REPORT UBSAN_OPTIONS=print_stacktrace=1:log_path=$REPORT
# The sanitizers must be loaded before anything else, and know the exceptions of libstdc++.
PRELOAD="$("$CXX" -print-file-name=libasan.so) $("$CXX" -print-file-name=libstdc++.so)"
watched() { LD_PRELOAD=$PRELOAD "$PYTHON" "$@" || { head -n 40 "$REPORT".* 2>/dev/null || true; exit 1; }; }
if [ $# -eq 0 ]; then
  watched -c "import sys; import tests.core.sanitized; from tests.frozen.fuzzing import main; sys.exit(main(['${FUZZ:-1000}']))"
  set -- tests/core tests/engine_rules tests/frozen/test_damage.py tests/frozen/test_int8.py
fi
watched -m pytest -q -n 2 "$@"
