# Every target does its own set-up. PYTHON is the interpreter the virtual environment is made from (3.11 or newer).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
DEMO_MINUTES ?= 8
FUZZ_SECONDS ?= 600

.PHONY: demo test test-all fuzz bench quality check format clean

demo: $(READY)  ## the whole main job on two portraits that come inside packages
	$(RUN) -m demo --minutes $(DEMO_MINUTES)

test: $(READY)  ## all tests but the slow ones
	$(RUN) -m pytest -m "not slow"

test-all: $(READY)  ## all tests
	$(RUN) -m pytest

fuzz: $(READY)  ## throw damaged files at what reads them; FUZZ_SECONDS=60 make fuzz is shorter
	$(RUN) -m fuzzing --seconds $(FUZZ_SECONDS)

bench: $(READY)  ## speed and quality beside the plain way; needs the clips of RECAST_TEST_DATA
	$(RUN) -m benchmarks

quality: $(READY)  ## train on a pair of clips for an hour, swap both ways, measure; needs the clips of RECAST_TEST_DATA
	$(RUN) -m benchmarks.quality

check: $(READY)  ## lint, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(READY): requirements.txt requirements-dev.txt requirements-mesh.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Recast needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-mesh.txt
	touch $(READY)

clean:
	rm -rf $(VENV) demo-workspace .pytest_cache .mypy_cache .ruff_cache .hypothesis
