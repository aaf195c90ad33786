PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# One worker a core; each computes in one thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: play test test-quick test-all bench lint clean

play: $(VENV)/installed
	$(BIN)/arena play quickstart --log runs/quickstart.db
	$(BIN)/arena report runs/quickstart.db --out runs/quickstart.html

# While working, test-quick leaves out the checks of all packaged agents; before a submission, test-all plays the
# slow tests too.
test: $(VENV)/installed-dev
	$(PYTEST) -m "not slow"

test-quick: $(VENV)/installed-dev
	$(PYTEST) -m "not slow and not conformance"

test-all: $(VENV)/installed-dev
	$(PYTEST) --hypothesis-profile=full

bench: $(VENV)/installed-dev
	$(BIN)/python -m bench

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,postgresql]"
	touch $@ $(VENV)/installed
