PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: play test bench lint clean

play: $(VENV)/installed
	$(BIN)/arena play quickstart --log runs/quickstart.db
	$(BIN)/arena report runs/quickstart.db --out runs/quickstart.html

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest

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
