PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test check bench examples format openapi lock clean

# The service with a sample study briefed over HTTP; keeps serving on http://127.0.0.1:7860.
run: $(VENV)/installed
	TRAUMA_LOG_LEVEL=$${TRAUMA_LOG_LEVEL:-WARNING} $(BIN)/trauma-api serve --with-sample

# Two processes, as most tests use one core; each of them loads the checkpoints once.
test: $(VENV)/installed-dev
	$(BIN)/pytest --numprocesses=2 --dist=loadfile

# Format, lint, types, import directions, contract drift.
check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/trauma-api openapi | diff -u openapi.json - || { echo "openapi.json is out of date: run 'make openapi'"; exit 1; }
	$(BIN)/python -m openapi_spec_validator openapi.json

# Ingest where the folder of real CTs that TRAUMA_TEST_DATA names exists, then compute. Ends with an error where a goal
# is not reached.
bench: $(VENV)/installed-dev
	@if [ -d "$$TRAUMA_TEST_DATA" ]; then $(BIN)/python benchmarks/ingest.py --data "$$TRAUMA_TEST_DATA"; \
	else echo "Ingest is left out: TRAUMA_TEST_DATA names no folder."; fi
	$(BIN)/python benchmarks/compute.py

# The three reports in docs/examples, on phantoms.
examples: $(VENV)/installed
	$(BIN)/python docs/examples/write_examples.py

format: $(VENV)/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

openapi: $(VENV)/installed
	$(BIN)/trauma-api openapi > openapi.json

# The versions that are installed now become the pinned ones.
lock: $(VENV)/installed-dev
	$(BIN)/pip freeze --all --exclude-editable | grep -v "^pip==" > constraints.txt

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
