# Every target does its own set-up: .venv gets what Recast and its demo need, and what tests and checks need only when
# a target asks for it. PYTHON is the interpreter the virtual environment is made from (3.11 or newer).
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready
READY_TO_TEST := $(VENV)/.ready-to-test
LOWEST := .venv-lowest
TESTERS := pytest pytest-xdist hypothesis playwright scikit-image
DEMO_MINUTES ?= 8
DEMO_NETWORK ?= hd128
FUZZ_SECONDS ?= 600

# One process per core, each with tests of its own; more than four would want too much memory.
TESTS := -m pytest -n logical --maxprocesses 4 --dist worksteal

.PHONY: demo base test test-all test-lowest tools fuzz bench quality docs check format clean

demo: $(READY)  ## the whole main job on two portraits that come inside packages
	$(RUN) -m demo --minutes $(DEMO_MINUTES) --network $(DEMO_NETWORK)

base: $(READY)  ## the weights that come with Recast, trained for hours on a folder of PORTRAITS
	$(RUN) -m demo.base $(PORTRAITS)
	$(RUN) -m demo.segmenter base-workspace/data/portraits

test: $(READY_TO_TEST) tools  ## all tests but the slow ones
	$(RUN) $(TESTS) -m "not slow"

test-all: $(READY_TO_TEST) tools  ## all tests
	$(RUN) $(TESTS)

# Old packages use what newer ones deprecate: that is no error here.
test-lowest: tools  ## the tests but the slow ones, with the lowest versions that requirements.txt allows
	test -d $(LOWEST) || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest.py > $(LOWEST)/requirements.txt
	$(LOWEST)/bin/python $(INSTALL) -r $(LOWEST)/requirements.txt $(TESTERS)
	$(LOWEST)/bin/python $(INSTALL) --no-deps -r requirements-mesh.txt
	@ffmpeg="$(LOWEST_FFMPEG)"; \
	[ -n "$$ffmpeg" ] || ffmpeg="$$(tests/lowest_ffmpeg.sh $(LOWEST)/ffmpeg)" || echo "no ffmpeg 5.1 here (LOWEST_FFMPEG): it is not tried"; \
	[ -z "$$ffmpeg" ] || PATH="$$(dirname "$$ffmpeg"):$$PATH"; \
	$(LOWEST)/bin/python -c "from pipeline.media.ffmpeg import find_ffmpeg as f; print('ffmpeg:', f())" && \
	$(LOWEST)/bin/python $(TESTS) -m "not slow" -W default::DeprecationWarning

tools:  ## what tests need and pip cannot install, where apt can; elsewhere these tests are skipped, which is said
	@missing="$$(for tool in chromium strace; do command -v $$tool > /dev/null || echo $$tool; done)"; \
	if [ -n "$$missing" ] && command -v apt-get > /dev/null && [ "$$(id -u)" = 0 ]; then \
	    { apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; } \
	        || echo "cannot install" $$missing: the tests that need this are skipped; \
	fi

fuzz: $(READY)  ## throw damaged files at what reads them; FUZZ_SECONDS=60 make fuzz is shorter
	$(RUN) -m tests.fuzz --seconds $(FUZZ_SECONDS)

bench: $(READY)  ## speed and quality beside the plain way; needs the clips of RECAST_TEST_DATA
	$(RUN) -m benchmarks

quality: $(READY)  ## train on a pair of clips for an hour, swap both ways, measure; needs the clips of RECAST_TEST_DATA
	$(RUN) -m benchmarks.quality

docs: $(READY)  ## write docs/options.md anew from the options of the commands
	$(RUN) -m tests.options_page

check: $(READY_TO_TEST)  ## lint, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY_TO_TEST)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(READY): requirements.txt requirements-demo.txt requirements-mesh.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Recast needs Python 3.11 or newer: make PYTHON=python3.12 ...')"
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(RUN) $(INSTALL) -r requirements.txt -r requirements-demo.txt
	$(RUN) $(INSTALL) --no-deps -r requirements-mesh.txt
	touch $@

$(READY_TO_TEST): $(READY) requirements-dev.txt
	$(RUN) $(INSTALL) -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) demo-workspace .pytest_cache .mypy_cache .ruff_cache .hypothesis
