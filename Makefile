# The two commands of the README. Everything happens in .venv, which is made once
# and brought up to date when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/penguin_piano.yaml

.PHONY: run test lint docs clean

run: $(VENV)/.installed
	$(VENV)/bin/clipig run $(CONFIG)

test: $(VENV)/.tested
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/python -m pytest -q -n auto --dist worksteal

lint: $(VENV)/.tested
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/lint-imports --no-cache

docs: $(VENV)/.tested
	$(VENV)/bin/python -m clipig.config.reference docs/reference

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed pyproject.toml
	$(VENV)/bin/python -m pip install --quiet -e '.[cluster,open_clip,ray,video]' --group test
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
