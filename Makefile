# Each target does all that it needs on a machine that has Python 3.11 or newer and make: it makes .venv, installs
# the project there (by uv where uv is on PATH), and takes a real Redis from a wheel where none is on PATH.

PYTHON ?= python3
IMPL   ?= python
REDIS  ?= auto
N      ?= 20
LOAD   ?= 8
BENCH  ?=
SECONDS ?= 60
SEED   ?=
KEEP   ?=
ONLY   ?=
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/ready
# Sessions that share pytest's own folder remove one another's files.
OWN_FOLDER := temporary=$$(mktemp -d); trap "rm -rf $$temporary" EXIT; set -x; PYTEST_DEBUG_TEMPROOT=$$temporary

.DEFAULT_GOAL := help
.PHONY: help install test test-parts test-proof test-pages deployments failovers partitions lint matrix conformance prove mutate model soak chaos simulate nightly bench site site-picture wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14
	@echo
	@echo 'Variables: IMPL=$(IMPL) (a name or a path), REDIS=$(REDIS) (auto, container, embedded, a path, redis://…), PYTHON=$(PYTHON), N=$(N), LOAD=$(LOAD), SECONDS=$(SECONDS), SEED (of make chaos, make mutate and make simulate), KEEP (of make chaos, in seconds), BENCH (its options)'

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "JobQueue needs Python 3.11 or newer; name one by PYTHON=…")'
	@if command -v uv >/dev/null; then \
	  set -x; uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) \
	  && VIRTUAL_ENV=$(VENV) uv pip install --quiet --editable '.[cli,conformance]' --group dev; \
	else \
	  set -x; $(PYTHON) -m venv $(VENV) \
	  && $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' \
	  && $(BIN)/python -m pip install --quiet --editable '.[cli,conformance]' --group dev; \
	fi
# The tests start hundreds of programs; where Python is set to write no bytecode, each would compile what it imports.
	-$(BIN)/python -m compileall -q -j 0 $(VENV)/lib python conformance spec fixtures >/dev/null
	@touch $@

install: $(READY) ## the virtual environment, with everything in it

test: $(READY) ## the tests of the spec, the fixtures, the Python reference and the kit's own machinery
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-parts test-proof

# Most tests wait for programs, so it pays to run more of them than there are cores; each process has its own Redis.
test-parts: $(READY)
	@$(OWN_FOLDER) $(BIN)/pytest -n 4 --dist=worksteal -m 'not deployment' --cov --cov-report=term-missing:skip-covered --durations=8 \
	  conformance/kit_tests spec fixtures python/tests

# They drive Chromium, and ask axe-core from npm.
test-pages: $(READY) ## the pages of reports in a real browser (needs chromium and npm)
	cd conformance/page_tests && npm ci --silent --no-audit --no-fund
	@$(OWN_FOLDER) $(BIN)/pytest conformance/page_tests

deployments: $(READY) ## the Python reference on a real cluster of six nodes and on Sentinel, with failovers and partitions
	@$(OWN_FOLDER) $(BIN)/pytest -m deployment --durations=8 python/tests

failovers: $(READY) ## the same under 200 calls a second for SECONDS, the primary killed or frozen every 20 s
	cd python && ../$(BIN)/python -m tests.deployments.failovers cluster --seconds=$(SECONDS)
	cd python && ../$(BIN)/python -m tests.deployments.failovers sentinel --seconds=$(SECONDS)

partitions: $(READY) ## the same, the primary cut off by network namespaces, with a server or without one (needs root)
	cd python && for deployment in cluster sentinel; do for who in clients one-of-each; do \
	  ../$(BIN)/python -m tests.deployments.failovers $$deployment --seconds=$(SECONDS) --cut-off=$$who || exit; \
	done; done

# Tests that fork sessions of the suite need a process with one thread.
test-proof: $(READY)
	@$(OWN_FOLDER) $(BIN)/pytest --durations=8 conformance/proof conformance/mutation .ci

lint: $(READY) ## ruff, mypy, shellcheck, and what is generated is fresh
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy conformance/jobqueue_conformance/implementations/python-asyncio/*.py
	$(BIN)/shellcheck --external-sources --source-path=SCRIPTDIR .ci/run .ci/redis-image \
	  conformance/jobqueue_conformance/implementations/bash/*.sh
	$(BIN)/python spec/extract.py --check
	$(BIN)/python conformance/prove.py --only pages

matrix: $(READY) ## the suite for each implementation on each version of Redis; ONLY=words; results in conformance/VERSIONS.md
	$(BIN)/python conformance/versions.py --only $(ONLY)

conformance: $(READY) ## the conformance suite against IMPL on REDIS
	$(BIN)/pytest conformance --impl=$(IMPL) --redis=$(REDIS) --report=build/reports/$(notdir $(IMPL:/=))

prove: $(READY) ## the kit proves itself: gates, kill matrix, panels, model (needs spin and gcc)
	$(BIN)/python conformance/prove.py

mutate: $(READY) ## N random edits of the Python reference: which does the suite not notice?
	$(BIN)/python conformance/mutate.py --number $(N) $(if $(SEED),--seed=$(SEED))

model: $(READY) ## the checked model of the protocol (needs spin and gcc)
	$(BIN)/python spec/model/check.py

soak: $(READY) ## the suite against IMPL N times in random order with LOAD busy processes, and its flake count
	$(BIN)/python conformance/soak.py --runs $(N) --load $(LOAD) --impl $(IMPL)

chaos: $(READY) ## servers and clients under kills, cuts, refusals and restarts for SECONDS: is a job lost?
	$(BIN)/python -m chaos --seconds=$(SECONDS) $(if $(SEED),--seed=$(SEED)) $(if $(KEEP),--keep=$(KEEP))

nightly: ## what takes longer than a change may wait; ONLY=words of a step's name; results in .ci/README.md
	.ci/run nightly --only '$(ONLY)'

simulate: $(READY) ## servers, clients and Redis in virtual time under faults for SECONDS, or the world of SEED with its story
	$(BIN)/python -m simulation --seconds=$(SECONDS) $(if $(SEED),--seed=$(SEED))

bench: $(READY) ## the benchmarks, compared with the raw limit and the peers; BENCH=--quick for a minute's worth
	@if command -v uv >/dev/null; then VIRTUAL_ENV=$(VENV) uv pip install --quiet --group bench; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench; fi
	$(BIN)/python python/benchmarks/run.py $(BENCH)

site: $(READY) ## build/site: all runs whose reports are under build/reports, and the protocol
	$(BIN)/python conformance/publish.py

site-picture: $(READY) ## the pictures of the documents, from build/site (needs chromium)
	$(BIN)/python conformance/picture.py

wheel: $(READY) ## what is published: dist/*.whl and dist/*.tar.gz
	$(BIN)/python -m hatchling build

clean: ## removes what these targets made
	rm -rf $(VENV) dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
