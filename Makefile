# `make demo` runs the main job, `make test` the tests; both set everything up first. Needs Python 3.11+ and make.
PYTHON ?= python3
BIN := .venv/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: help setup browser strace demo test check format bench bench-peers soak clean

help:
	@echo "make demo    set up and run a backtest on a generated market"
	@echo "make test    set up and run lint, strict types and the tests"
	@echo "make check   lint and strict types only"
	@echo "make format  rewrite the code in the house's layout"
	@echo "make soak    the tests that take hours, at their full size; DURATION=600 shortens the longest"
	@echo "make bench   measure; the table is printed and written to bench/results.json"
	@echo "make bench-peers  measure against vectorbt, NautilusTrader, backtrader and cryptofeed, in an environment of its own"
	@echo "make clean   remove what the above made"

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Penstock needs Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[dev]'
	@touch $@

.venv/ready-bench: .venv/ready
	$(BIN)/python -m pip install --quiet --use-pep517 --editable '.[dev,bench]'
	@touch $@

# The report is tested in a real browser. Nothing is skipped for want of one: it is installed, or named.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
		{ echo "The report is tested in a browser; install Debian's package chromium: sudo apt-get install chromium"; exit 1; }

# Processes are killed at their N-th system call. Nothing is skipped for want of strace either.
strace:
	@command -v strace >/dev/null || \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends strace >/dev/null; } || \
		{ echo "Processes are killed with strace; install Debian's package strace: sudo apt-get install strace"; exit 1; }

demo: setup
	$(BIN)/penstock demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check browser strace
	$(BIN)/python -m pytest -n 2

# Some hours. DURATION is how many seconds a thousand data managers are driven; the rest takes as long as it takes.
DURATION ?= 3600
soak: setup strace
	PENSTOCK_SOAK=1 PENSTOCK_SOAK_SECONDS=$(DURATION) $(BIN)/python -m pytest -n 2 tests/scenarios/test_soak.py \
		tests/scenarios/test_process_memory.py tests/scenarios/test_stop_and_go_on.py tests/scenarios/test_killed_runs.py \
		tests/pipeline/storage tests/pipeline/data/test_full_disks.py tests/pipeline/data/test_arbiter.py \
		tests/pipeline/data/test_journaled_histories.py tests/pipeline/checkpoints/test_resuming.py \
		tests/pipeline/checkpoints/test_full_disks_of_runs.py tests/pipeline/edges/test_under_way.py \
		tests/stages/recording/test_killed_recorders.py \
		tests/stages/serving/test_stored.py tests/stages/serving/test_random_faults.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready-bench
	$(BIN)/python -m bench

bench-peers: .venv-peers/ready
	.venv-peers/bin/python -m bench sweep_peers book_updates merge_rows

.venv-peers/ready: pyproject.toml bench/peers-constraints.txt
	$(PYTHON) -m venv .venv-peers
	PIP_CONSTRAINT=$(CURDIR)/bench/peers-constraints.txt .venv-peers/bin/python -m pip install --quiet --use-pep517 \
		--editable . vectorbt backtrader nautilus_trader cryptofeed
	@touch $@

clean:
	rm -rf .venv .venv-peers results build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
