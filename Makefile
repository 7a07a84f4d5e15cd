# `make demo` and `make test` work on a fresh machine with Python 3.11 or 3.12, a C compiler and git.

# The first of these that runs and is of a version we support (a version manager may name more than it has).
PYTHON ?= $(shell for python in python3 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo "$$python" && break; done)
VENV := .venv
BIN := $(VENV)/bin
RUN_DEPS := $(VENV)/.run
DEV_DEPS := $(VENV)/.dev

.PHONY: demo serve test lint format types imports suite alone test-slow kills log-kills consent-million latency overload pop-latency chaos bench train proto lock clean fuzz audit

demo: $(RUN_DEPS)
	$(BIN)/arbiter demo

serve: $(RUN_DEPS)
	$(BIN)/arbiter serve --demo --web 127.0.0.1:8080 --metrics 127.0.0.1:9464

test: lint types imports suite alone

lint: $(DEV_DEPS)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(DEV_DEPS)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(DEV_DEPS)
	$(BIN)/mypy

imports: $(DEV_DEPS)
	$(BIN)/lint-imports

suite: $(DEV_DEPS)
	$(BIN)/python -m pytest -n 2 -m "not slow" --durations=15 --cov --cov-report=term:skip-covered

# What measures time, with no other test on its cores.
alone: $(DEV_DEPS)
	$(BIN)/python -m pytest -m slow tests/engine/ruleset_versions/test_live_switch.py \
	  tests/engine/rollout/test_following_models.py

test-slow: $(DEV_DEPS)
	$(BIN)/python -m pytest -m slow

# A million changes of consent and decisions of several processes on each store; TMPDIR=/dev/shm spares the disk its fsyncs.
consent-million: $(DEV_DEPS)
	$(BIN)/python -m pytest -s -m slow tests/integration/test_consent_obedience.py

# A hundred kills of ingest processes, compared with an exact reference; about ten minutes.
kills: $(DEV_DEPS)
	$(BIN)/python -m pytest -m slow tests/engine/events/test_events_survive_kills.py

# A hundred kills of a server under load: every decision that was answered is in the log; about ten minutes.
log-kills: $(DEV_DEPS)
	$(BIN)/python -m pytest -s -m slow tests/integration/test_decisions_survive_kills.py

# A million malformed and hostile inputs; about a quarter of an hour. TMPDIR=/dev/shm spares the disk.
fuzz: $(DEV_DEPS)
	$(BIN)/python tests/fuzz/fuzzing.py --inputs $(or $(INPUTS),1000000) --seed $(or $(SEED),1)

# Known vulnerabilities of what is locked. Asks PyPI; ends with 2 where nobody could be asked.
audit: $(DEV_DEPS)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/supply/auditing.py

latency: $(DEV_DEPS)
	$(BIN)/python -m loadtest latency

# Three waves (or WAVES=n) of 2 and of 5 times what the server can answer, from clients that send all and that throttle.
overload: $(DEV_DEPS)
	$(BIN)/python -m loadtest overload $(if $(WAVES),--waves $(WAVES))

# From the ring to the proposal on an agent's screen, with the server at half load; needs a chromium.
pop-latency: $(DEV_DEPS)
	PYTHONPATH="$(CURDIR)" $(BIN)/python tests/web/pop_latency.py

# Faults under load, each with what was answered, how soon, and when all was well again.
chaos: $(DEV_DEPS)
	$(BIN)/python -m pytest -s -p no:randomly tests/integration/test_chaos.py

bench: $(DEV_DEPS)
	$(BIN)/python -m engine.bench $(ONLY)

train: $(DEV_DEPS)
	$(BIN)/python -m training all

proto: $(DEV_DEPS)
	$(BIN)/python proto/generate.py

lock: $(DEV_DEPS)
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --no-emit-index-url --no-header --extra training --extra dev --extra bench --extra loadtest pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf build data $(VENV) *.egg-info

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Arbiter needs Python 3.11 or 3.12 on the PATH, or PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUN_DEPS): requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --use-pep517 -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(DEV_DEPS): requirements-dev.lock requirements.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --use-pep517 -r requirements-dev.lock
	# xds-protos brings older files of the same names
	$(BIN)/python -m pip install -q --disable-pip-version-check --force-reinstall --no-deps \
	  "$$(grep '^opentelemetry-proto==' requirements-dev.lock)"
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@ $(RUN_DEPS)
