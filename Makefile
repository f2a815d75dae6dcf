# `make run` and `make test` are all that is needed: they make .venv and install what they use.
VENV    := .venv
PYTHON  := $(VENV)/bin/python
STAMP   := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt
export OMP_NUM_THREADS ?= 1

.PHONY: run test test-all lint types bench clean
.DEFAULT_GOAL := run

$(STAMP): $(SOURCES)
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet -c constraints.txt torch
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[laptop,dev]"
	touch $@

run: $(STAMP)  ## find the best Ag4S2 cluster, in the workspace demo/
	$(VENV)/bin/godelta init demo
	$(VENV)/bin/godelta run demo/ag4s2.yaml --workspace demo

test: $(STAMP)  ## everything but the tests marked slow
	$(PYTHON) -m pytest -m "not slow"

test-all: $(STAMP)  ## every test
	$(PYTHON) -m pytest

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Types and layers are checked on an ordinary install: an editable one hides half of the package.
types: $(STAMP)
	rm -rf build .venv-types
	python3 -m venv --system-site-packages .venv-types
	.ci/types .venv-types $(VENV)

bench: $(STAMP)
	$(PYTHON) benchmarks/delta_cost.py

clean:
	rm -rf build .venv-types demo
