# The two commands of the README. Everything happens in .venv, which is made once
# and brought up to date when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/penguin_piano.yaml

.PHONY: run test lint docs fuzz hooks clean

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

# Looks for inputs that end in anything but a picture or a clear error: make fuzz N=100000
N ?= 2000
fuzz: $(VENV)/.tested
	$(VENV)/bin/python -m tests.fuzz -n $(N)

# Writes docs/reference anew and builds the documentation: open site/index.html.
docs: $(VENV)/.documented
	$(VENV)/bin/python -m clipig.config.reference docs/reference
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

# Runs ruff and mypy before each commit.
hooks: $(VENV)/.tested
	$(VENV)/bin/python -m pip install --quiet --group dev
	$(VENV)/bin/pre-commit install

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed pyproject.toml
	$(VENV)/bin/python -m pip install --quiet -e '.[cluster,open_clip,ray,video]' --group test
	touch $@

$(VENV)/.documented: $(VENV)/.installed pyproject.toml
	$(VENV)/bin/python -m pip install --quiet --group docs
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info
