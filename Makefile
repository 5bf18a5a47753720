# make demo: the whole job on real patients' data.   make test: every check.   make coverage: what tests reach.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := deploy/constraints.txt
DECAF_VENV := .venv-decaf
DECAF := data_owner/benchmark/baselines/decaf_requirements.txt
# modules are compiled when they are first imported, which most never are
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

.PHONY: demo test coverage check stubs decaf clean

demo: $(VENV)/installed
	PATH="$(CURDIR)/$(BIN):$$PATH" bash deploy/demo.sh demo

test: $(VENV)/installed-dev check
	$(BIN)/python -m pytest -n 2 --dist loadfile

coverage: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

stubs: $(VENV)/installed-dev
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protocol/fair4free/v1/release.proto

# DECAF pins packages that clash with ours: an environment of its own, which the comparison starts
decaf: $(DECAF_VENV)/installed

$(DECAF_VENV)/installed: $(DECAF)
	$(PYTHON) -m venv $(DECAF_VENV)
	$(DECAF_VENV)/bin/pip install --quiet --disable-pip-version-check -r $(DECAF)
	touch $@

# pip comes last: without it the environment is half made
$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/pip
	$(PIP) -c $(CONSTRAINTS) torch -e '.[all]'
	touch $@

$(VENV)/installed-dev: pyproject.toml $(CONSTRAINTS) | $(BIN)/pip
	$(PIP) -c $(CONSTRAINTS) torch -e '.[dev]'
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) $(DECAF_VENV) demo dist
