# Everything happens in .venv, made from the pins in requirements.lock.
# Another Python:  make test PYTHON=python3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# The environment is marked with its interpreter's version: another PYTHON makes it anew.
PYTHON_VERSION := $(shell $(PYTHON) -c 'import platform; print(platform.python_version())' 2>/dev/null)
PYTHON_OK := $(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11) and "yes" or "")' 2>/dev/null)
ENVIRONMENT := $(VENV)/.python-$(PYTHON_VERSION)
INSTALLED := $(VENV)/.installed

# What Python compiles is kept, whatever the shell says: without that every process compiles JAX anew,
# which takes four times as long as the import.
unexport PYTHONDONTWRITEBYTECODE

UV := $(shell command -v uv 2>/dev/null)
# The pins are complete, what builds is among them, and Python compiles what it imports: half the time.
ifdef UV
PIP_INSTALL := uv pip install --quiet --python $(BIN)/python --no-deps
else
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile
# The pip that comes with older Pythons takes twice as long, but knows how to bring the newest.
NEWEST_PIP := $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check \
	--no-compile pip
endif

.DEFAULT_GOAL := help
.PHONY: help install demo check lint types tests test test-full docs site dist bench bench-gpu fmt lock clean

help:  ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## make .venv from requirements.lock, with ufm in it

$(ENVIRONMENT):
	$(if $(PYTHON_OK),,$(error ufm needs Python 3.11 or newer, and `$(PYTHON)` $(if $(PYTHON_VERSION),is $(PYTHON_VERSION),does not run): name another, as in `make install PYTHON=python3.12`))
	$(PYTHON) -m venv --clear --without-pip $(VENV)
	$(if $(UV),,$(NEWEST_PIP) || $(PYTHON) -m venv --upgrade-deps $(VENV))
	@touch $@

# Two at once: to unpack what was fetched takes one core.
$(INSTALLED): $(ENVIRONMENT) pyproject.toml requirements.lock
	@for half in 0 1; do awk "NR % 2 == $$half" requirements.lock > $(VENV)/pins-$$half.txt; done
	$(PIP_INSTALL) -r $(VENV)/pins-0.txt & $(PIP_INSTALL) -r $(VENV)/pins-1.txt && wait $$!
	$(PIP_INSTALL) --no-build-isolation -e .
	@touch $@

demo: install  ## the main job: every loss, many random starts, a verdict for each
	$(BIN)/ufm solve

PYTEST := $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

check: lint types

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install
	$(BIN)/pyright

tests: install
	$(PYTEST)

# Types are checked beside the tests, so that no core waits.
test: lint  ## format, lint, types, then the tests (which run the examples)
	$(MAKE) --jobs 2 types tests

test-full: check  ## every case of every test, compiled instead of run by NumPy: before a release
	$(PYTEST) --full

# Without this variable the theme prints an announcement.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs
# The site's tutorials show what the examples print and draw; minutes, once for each change.
docs: install  ## run the examples, build the site, and serve it on this machine
	$(BIN)/python docs/hooks/examples.py
	$(MKDOCS) serve --strict

site: install  ## the same, as files in build/site
	$(BIN)/python docs/hooks/examples.py
	$(MKDOCS) build --strict

dist: install  ## build the sdist and the wheel in dist/
	$(BIN)/hatchling build

# The peers (PyTorch, optimistix, curvlinops, …) are heavy and pull old versions of shared packages:
# apart, in an environment of their own.
BENCH := .venv-bench
bench:  ## time solvers and spectra beside what people use today (half an hour, idle machine)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check \
		-r benchmarks/requirements-peers.lock
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	$(BENCH)/bin/python benchmarks/solvers.py
	$(BENCH)/bin/python benchmarks/first_answer.py
	$(BENCH)/bin/python benchmarks/batches.py
	$(BENCH)/bin/python benchmarks/spectra.py
	$(BENCH)/bin/python benchmarks/roofline.py
	$(BENCH)/bin/python benchmarks/scaling.py
	$(BENCH)/bin/python benchmarks/landscape.py
	$(BENCH)/bin/python benchmarks/variants.py

# JAX as it is installed: its plugin for the accelerator is no part of the pins.
bench-gpu: install  ## time the library on an accelerator (eight minutes at most)
	$(BIN)/python benchmarks/gpu.py

fmt: install  ## format, and fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:  ## renew requirements.lock (needs uv)
	uv pip compile --universal --python-version 3.11 --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --upgrade --quiet \
		pyproject.toml --extra dev -o requirements.lock

clean:  ## remove .venv, caches and builds
	rm -rf $(VENV) $(BENCH) .cache .hypothesis .pytest_cache .ruff_cache build dist
