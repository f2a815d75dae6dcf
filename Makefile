# `make run` and `make test` are all that is needed: they make .venv and install what they use.
VENV    := .venv
PYTHON  := $(VENV)/bin/python
STAMP   := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt
MARKERS ?= not slow
# Much of the suite waits for processes that were killed, and for time limits.
WORKERS ?= 3
export OMP_NUM_THREADS ?= 1

# MACE and SevenNet exclude each other, so SevenNet is tested in an environment of its own. ORB is there too: it
# goes with either, but not with the rich and filelock that are tested elsewhere.
MACE_STAMP     := $(VENV)/.installed-mace
SEVENNET       := .venv-sevennet
SEVENNET_STAMP := $(SEVENNET)/.installed

.PHONY: run test test-sevennet lint types docs gpaw bench soak clean
.DEFAULT_GOAL := run

$(STAMP): $(SOURCES)
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet -c constraints.txt torch
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[laptop,dev,docs]"
	touch $@

$(SEVENNET_STAMP): $(SOURCES) constraints-sevennet.txt
	test -x $(SEVENNET)/bin/python || python3 -m venv $(SEVENNET)
	grep -vE "^(rich|filelock)==" constraints.txt | cat - constraints-sevennet.txt > $(SEVENNET)/constraints.txt
	$(SEVENNET)/bin/python -m pip install --quiet --no-compile -c $(SEVENNET)/constraints.txt torch
	$(SEVENNET)/bin/python -m pip install --quiet --no-compile -c $(SEVENNET)/constraints.txt \
		-e ".[chgnet,sevennet,orb]" pytest hypothesis
	touch $@

$(MACE_STAMP): $(STAMP)
	$(PYTHON) -m pip install --quiet -c constraints.txt -e ".[laptop,mace,dev,docs]"
	touch $@

run: $(STAMP)  ## find the best Ag4S2 cluster, in the workspace demo/
	$(VENV)/bin/godelta init demo
	$(VENV)/bin/godelta run demo/ag4s2.yaml --workspace demo

test: $(MACE_STAMP)  ## every test but the slow ones; MARKERS="" for all, WORKERS=0 for one process
	$(PYTHON) -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKERS)"

test-sevennet: $(SEVENNET_STAMP)  ## foundations, and all that is marked so, with SevenNet and ORB
	$(SEVENNET)/bin/python -m pytest -m sevennet tests/foundation \
		$$(grep -rl --include="test_*.py" --exclude-dir=foundation "pytest.mark.sevennet" tests)

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Types and layers are checked on an ordinary install: an editable one hides half of the package.
types: $(STAMP)
	rm -rf build .types
	$(PYTHON) -m pip install --quiet --no-deps --target .types .
	MYPYPATH=.types $(VENV)/bin/mypy -p godelta
	PYTHONPATH=.types $(VENV)/bin/lint-imports

docs: $(STAMP)  ## the site, in build/site: open index.html, no server is needed
	$(PYTHON) docs/generate.py
	$(PYTHON) -m mkdocs build --strict

# Without pip's cache: a wheel kept there may have been built before mpic++ was installed.
gpaw: $(STAMP)  ## build GPAW, with MPI where mpic++ is; docs/how-to/dft-with-gpaw.md names the system packages
	$(PYTHON) -c "import gpaw" 2>/dev/null || GPAW_CONFIG=$(CURDIR)/.ci/gpaw_siteconfig.py \
		$(PYTHON) -m pip install --quiet --no-cache-dir -c constraints.txt gpaw gpaw-data

bench: $(STAMP)
	$(PYTHON) benchmarks/delta_cost.py

soak: $(STAMP)  ## every fault of a cluster and 100 random kills, on a SLURM of its own; takes an hour
	GODELTA_SOAK=1 GODELTA_KILLS=100 $(PYTHON) -m pytest -m "" -v --no-header --disable-warnings \
		--durations=0 --durations-min=1 tests/slurm > benchmarks/results/soak.txt; status=$$?; cat benchmarks/results/soak.txt; exit $$status

clean:
	rm -rf build .types demo
