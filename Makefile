# Every target works from a bare clone: it needs python3 (3.11 or newer), make, a C++20 compiler and pip's index.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
BIN := .venv/bin
# CMake and Ninja come as wheels, so that a machine without them builds the core too; wheel and setuptools-scm are for seqeval,
# which is built from its sources and cannot fetch them by itself any more.
BUILD_TOOLS := "setuptools>=77" setuptools-scm wheel scikit-build-core nanobind cmake ninja
MODULES := $(shell find src/elman -name '*.py' 2>/dev/null | LC_ALL=C sort | cksum)
CORE := $(wildcard CMakeLists.txt) $(shell find csrc -type f 2>/dev/null)
DEMO := runs/demo

# How many damages and lies `make fuzz` draws for each of its files.
FUZZ ?= 5000
# Seconds that `make slow` may take (0: all of them, which is an hour's work on two cores).
SLOW_BUDGET ?= 0
# Two workers with one thread each: small steps lose more to waiting threads than they win. Tests of threads set their own.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

.PHONY: help setup demo gallery test slow libraries check format bench sanitize fuzz docs wasm wheels ci clean

help:
	@echo "make demo      train the character model for two minutes at most, write text with it, draw it"
	@echo "make gallery   train a small model of each of the eight applications and show what it makes, in a quarter of an hour"
	@echo "make test      the fast tests"
	@echo "make slow      the slow tests, all of them or as many as fit into SLOW_BUDGET seconds"
	@echo "make libraries captum, fvcore, opacus, ptflops and torchinfo with the layers, in an environment of their own"
	@echo "make check     format, lint, types, floors"
	@echo "make format    put the sources into form"
	@echo "make bench     time the layers beside torch.nn and the Python loop"
	@echo "make sanitize  the compiled core under the address, undefined-behaviour and thread sanitizers"
	@echo "make fuzz      frozen files, damaged and lying, FUZZ of each (make sanitize: under the sanitizers)"
	@echo "make docs      run every code block of the documentation"
	@echo "make wasm      the core for browsers, by Emscripten (Debian: apt install emscripten)"
	@echo "make wheels    the wheels of elman, with the core for browsers in it, and elman-runtime, into dist/"
	@echo "make ci        check and test"

setup: .venv/ready

# One environment for all targets, made once; made up to date when the package's settings, the list of its modules or the
# core's sources change: an editable install knows each module by its file.
.venv/ready: pyproject.toml constraints.txt .venv/modules $(CORE)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt $(BUILD_TOOLS)
	CMAKE_BUILD_PARALLEL_LEVEL=2 $(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

.venv/modules: FORCE
	@mkdir -p .venv; echo '$(MODULES)' | cmp -s - $@ || echo '$(MODULES)' > $@

FORCE:

demo: .venv/ready
	$(BIN)/elman train language-model --config configs/language_model/demo.toml --run $(DEMO) --overwrite
	$(BIN)/elman generate $(DEMO) --prompt "def " --length 400 --temperature 0.6 --seed 4
	$(BIN)/elman draw $(DEMO) >/dev/null
	@printf '\nThe learning curve and the network, as it is and unfolded over time:\n'; ls $(DEMO)/*.png $(DEMO)/*.svg
	@printf '\nThe other applications (translation, speech, captions, ...), one output of each: make gallery, or docs/gallery.md\n'

gallery: .venv/ready
	$(BIN)/python -m benchmarks.gallery

test: .venv/ready
	$(PYTEST)

slow: .venv/ready
	$(PYTEST) -m slow $(if $(filter-out 0,$(SLOW_BUDGET)),--budget $(SLOW_BUDGET))

# Beside .venv: what these libraries ask for is no business of the package's. The core is built once more, for this environment.
LIBRARIES := .venv-libraries
libraries: $(LIBRARIES)/ready
	OMP_NUM_THREADS=1 $(LIBRARIES)/bin/python -m pytest -m slow tests/libraries

$(LIBRARIES)/ready: tests/libraries/requirements.txt pyproject.toml constraints.txt $(CORE)
	@test -x $(LIBRARIES)/bin/python || $(PYTHON) -m venv $(LIBRARIES)
	$(LIBRARIES)/bin/python -m pip install --quiet -c constraints.txt -r tests/libraries/requirements.txt $(BUILD_TOOLS)
	CMAKE_BUILD_PARALLEL_LEVEL=2 $(LIBRARIES)/bin/python -m pip install --quiet -c constraints.txt --no-build-isolation \
		-C build-dir=build/libraries -e .
	@touch $@

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: test
	$(BIN)/python -m benchmarks layers

docs: .venv/ready
	$(PYTEST) tests/test_readme.py tests/test_learn.py

sanitize: .venv/ready
	bash tests/sanitize.sh

fuzz: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.frozen.fuzzing $(FUZZ)

# Two modules in src/elman/web, which `elman export --to html` puts into its pages.
wasm:
	$(PYTHON) csrc/wasm/build.py

wheels: wasm .venv/ready
	$(BIN)/python -m pip wheel --quiet -c constraints.txt --no-build-isolation --no-deps --wheel-dir dist .
	@for wheel in dist/elman-*.whl; do $(BIN)/python -m zipfile -l $$wheel | grep -q 'elman/web/elman.wasm' || \
		{ echo "$$wheel has no module for browsers"; exit 1; }; done
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m distributions.runtime_wheel dist

# $(call timed,name,command): run one step of CI and say how long it took.
timed = @printf '\n== %s\n' '$(1)'; SECONDS=0; $(2); printf '== %s: %s s\n' '$(1)' "$$SECONDS"

ci:
	$(call timed,setup,$(MAKE) setup)
	$(call timed,format,$(BIN)/ruff format --check .)
	$(call timed,lint,$(BIN)/ruff check .)
	$(call timed,types,$(BIN)/mypy)
	$(call timed,floors,$(BIN)/lint-imports)
	$(call timed,fast tests,$(PYTEST))

clean:
	rm -rf build dist runs .venv-libraries .pytest_cache .mypy_cache .ruff_cache .hypothesis src/elman/*.so
