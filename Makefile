# Every target makes the environment first: it needs only Python 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# without compiling every file of torch beforehand: Python does it for what is really imported
PIP := $(BIN)/python -m pip install -qq --no-compile --disable-pip-version-check -c constraints.txt

.PHONY: help demo test test-more check format bench docs site clean
.DEFAULT_GOAL := help

help:
	@echo "make demo                   a model from nothing: prepare clips, train, sample, extend, interpolate"
	@echo "make demo VIDEOS=my/folder  the same with your videos"
	@echo "make test                   run the tests"
	@echo "make test-more              run the property tests with fresh random examples, five times as many"
	@echo "make check                  formatting, lint, types, import layers, generated pages, links"
	@echo "make bench                  measure everything, for hours (one measurement: python -m benchmarks NAME)"
	@echo "make site                   build the website into site/, offline"
	@echo "make docs                   write the generated pages of docs/ anew"

# The first line is for a machine without a network whose environment already has everything.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (once, about a minute)" >&2
	@$(PIP) --no-index --no-build-isolation -e '.[dev]' >/dev/null 2>&1 || $(PIP) -e '.[dev]'
	@touch $@

# Threads that spin long while they wait make a busy CPU many times slower (the command sets this for itself).
export GOMP_SPINCOUNT ?= 1000

# Where Python is told to keep no bytecode, every start would compile torch and numpy anew.
export PYTHONDONTWRITEBYTECODE =

# The shell, not make, puts the name in place: it may contain spaces and quotes.
export VIDEOS
demo: $(READY)
	@$(BIN)/python examples/demo.py $${VIDEOS:+--videos="$$VIDEOS"}

# Two processes of one thread each: less than a file of tests does not pay to move to the other one. The files come in the
# order of tests/conftest.py, the longest first, so that none is left alone with one process at the end.
test: $(READY)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-more: $(READY)
	@OMP_NUM_THREADS=1 HYPOTHESIS_PROFILE=more $(BIN)/python -m pytest -n 2 --dist loadfile -m hypothesis --timeout 1800 $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m tools.docs --check
	$(BIN)/python tools/check_links.py
	$(BIN)/python tools/check_prose.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The peer to race against, without the packages that only its text encoder needs.
PEER := .venv/.peer
$(PEER): $(READY)
	@$(PIP) --no-deps video-diffusion-pytorch==0.7.0 rotary-embedding-torch==0.9.1 einops-exts==0.0.4
	@touch $@

bench: $(PEER)
	$(BIN)/python -m benchmarks all

docs: $(READY)
	@$(BIN)/python -m tools.docs

# mkdocs is not part of the environment: it is installed when the site is built for the first time.
SITE := .venv/.site
$(SITE): $(READY)
	@$(PIP) --no-index mkdocs-material 'mkdocstrings[python]' >/dev/null 2>&1 || $(PIP) mkdocs-material 'mkdocstrings[python]'
	@touch $@

site: $(SITE)
	$(BIN)/python -m mkdocs build --quiet

clean:
	rm -rf .pytest_cache .hypothesis .ruff_cache .import_linter_cache build dist site
