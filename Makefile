# Everything a developer or CI does. All it needs is make, git, Python >= 3.11 and PyPI.

# The first that really runs: a name on the PATH may be a pyenv shim without a Python, or a Debian one without venv.
PYTHON  ?= $(shell for it in python3.11 python3.12 python3.13 python3 python; do \
	$$it -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$it && break; done)
# One more than there are processors: many tests wait for processes and leases.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
LIVES   ?= 2000
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed

# Where tests keep their files: in memory where there is room for them (containers often have 64 MB), or where pytest does.
SCRATCH := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 8000000 { print "/dev/shm" }')

# What ruff looks at; folders that are not there yet are passed over.
CODE := $(wildcard batchor_core batchor_dagster docs/_site .ci examples benchmarks tests)

# Tests and types start hundreds of processes. Where bytecode is not kept, as in many containers, each compiles all anew.
unexport PYTHONDONTWRITEBYTECODE

export DAGSTER_DISABLE_TELEMETRY := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ifneq ($(SCRATCH),)
export PYTEST_DEBUG_TEMPROOT := $(SCRATCH)
endif

.DEFAULT_GOAL := help
.PHONY: help env types imports snippets demo ui test test-browser hostile chaos lives versions check fmt docs docs-serve release bench bench-full clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

env: $(STAMP)  ## create .venv with everything in it; does nothing when it is up to date

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python from 3.11 on, with its venv module, is on the PATH" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install -qq -c constraints.txt uv
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	UV_DEFAULT_INDEX="$${index:-https://pypi.org/simple}" \
		$(BIN)/python -m uv --no-config pip install -q --python $(BIN)/python -c constraints.txt -e ".[dev]" || \
		{ echo "uv can't, which knows none of pip's settings but the index; pip tries ..." >&2; \
		$(BIN)/python -m pip install -qq --no-compile -c constraints.txt -e ".[dev]"; }
	@touch $@

demo: env  ## run a whole batch run on your machine: no key, no bill; PROVIDER=anthropic or gemini takes another API
	@PROVIDER=$(PROVIDER) $(BIN)/python examples/demo.py

ui: env  ## open the Dagster project with a local OpenAI-compatible server behind it
	@$(BIN)/python examples/ui.py

test: env  ## run every test; those in the browser by themselves, since they share one deployment
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal -m "not browser and not long"
	@BATCHOR_BROWSER=$(if $(CI),required,optional) $(MAKE) --no-print-directory test-browser

test-browser: env  ## operate the Dagster UI in a headless Chromium; screenshots in browser-shots
	@$(BIN)/python -m pytest -q -n 0 tests/browser

hostile: env  ## try 200 seeds of every way in which a provider's files can be wrong
	@BATCHOR_TEST_HOSTILE_SEEDS=200 $(BIN)/python -m pytest -q -n $(WORKERS) --timeout 1800 tests/hostile

versions: env  ## try the lowest and the newest versions that pyproject.toml allows, on every Python here
	@$(BIN)/python -m tests.versions $(if $(PYTHONS),--python $(PYTHONS))

check: env  ## lint, format, types, import rules, types of what the pages show, the site
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(MAKE) --no-print-directory -j 2 types docs imports snippets

types: env
	@$(BIN)/mypy

imports: env
	@$(BIN)/lint-imports --no-logo --no-cache

snippets: env
	@$(BIN)/python -m tests.snippets

docs: env  ## build the documentation's site into .site; a link or a name that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs-serve: env  ## show the site while you write
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

chaos: env  ## kill drivers in every way for 40 minutes; SUITES="pairs drivers" picks, ARGS="--scale 0.1" shortens, PROVIDER=name takes another provider
	@$(if $(SUITES)$(PROVIDER),,$(BIN)/python -m pytest -q -n 0 -m long tests)
	@$(BIN)/python -m tests.chaos $(SUITES) $(if $(PROVIDER),--provider $(PROVIDER)) $(ARGS)

lives: env  ## hold 2,000 random lives of a run on each store against its model
	@BATCHOR_TEST_LIVES=$(LIVES) BATCHOR_TEST_SHARDS=2 $(BIN)/python -m pytest -q -n $(WORKERS) --timeout 7200 \
		tests/contract/stores/test_state_machine.py tests/contract/stores/test_shared_lives.py

fmt: env  ## format the code and apply the linter's safe fixes
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

release: env  ## version, changelog, build, twine's check, commit and tag: VERSION=0.2.0; publishes nothing
	@$(BIN)/python .ci/release.py $(VERSION)

bench: env  ## measure the engine against a hand-written floor, small
	@$(BIN)/python -m benchmarks

bench-full: env  ## the same with up to a million rows, and write its page anew
	@$(BIN)/python -m benchmarks --rows 10000,100000,1000000 --docs

clean:  ## remove .venv and everything that was generated
	@rm -rf $(VENV) .site build dist .demo .ui .benchmarks browser-shots
	@rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
