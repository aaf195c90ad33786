PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# One worker a core; each computes in one thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: play league league-all test test-quick test-all bench lint clean

play: $(VENV)/installed
	$(BIN)/arena play quickstart --log runs/quickstart.db
	$(BIN)/arena report runs/quickstart.db --out runs/quickstart.html

# A league to its board and audit; a second play of it only reads the log.
league: $(VENV)/installed
	$(BIN)/arena play league-digits --workers 2 --log runs/league-digits.db
	$(BIN)/arena board runs/league-digits.db --out runs/league-digits.html
	$(BIN)/arena audit runs/league-digits.db

league-all: $(VENV)/installed
	$(BIN)/arena play league-digits-all --dry-run
	$(BIN)/arena play league-digits-all --workers 2 --log runs/league-digits-all.db
	$(BIN)/arena board runs/league-digits-all.db --out runs/league-digits-all.html

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
