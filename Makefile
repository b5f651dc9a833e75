# What people do here. Every target makes its environment first, once: `make run` on a fresh clone is enough.
#
#   make run          the app on http://localhost:8501
#   make test         lint, types, all tests (browser tests need Chromium)
#   make lint         ruff and mypy alone
#   make format       let ruff rewrite what it can
#   make bench        what the README's figures come from; nothing else should run meanwhile
#   make explain      the figures of the page How it works
#   make screenshots  the README's picture, from the running app

VENV ?= .venv
PYTHON ?= python3
PORT ?= 8501
PYTEST_OPTIONS ?=

BIN = $(VENV)/bin
APP = $(VENV)/.app-installed
DEV = $(VENV)/.dev-installed

.PHONY: run test lint format bench explain screenshots

run: $(APP)
	$(BIN)/python -m streamlit run app.py --server.address localhost --server.port $(PORT) --server.fileWatcherType auto

# Browser tests run by themselves: a page that waits for a core looks broken.
test: lint
	$(BIN)/python -m pytest -n 2 -m "not browser" $(PYTEST_OPTIONS)
	$(BIN)/python -m pytest -m browser $(PYTEST_OPTIONS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV)
	$(BIN)/python -m benchmarks.attack_speed
	$(BIN)/python -m benchmarks.app_overhead

explain: $(DEV)
	$(BIN)/python -m benchmarks.explain

screenshots: $(DEV)
	$(BIN)/python -m benchmarks.screenshots

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(APP): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt $(APP)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
