# Every target first makes its environment, once: `make run` on a fresh clone is enough.
#
#   make run          the app on http://localhost:8501
#   make test         lint, types, layers and all tests (browser tests need Chromium)
#   make lint         ruff, mypy and import-linter alone
#   make format       let ruff rewrite what it can
#   make coverage     which lines the tests reach, as a table and in htmlcov/
#   make bench        the measurements that take minutes; run nothing else meanwhile
#   make tables       write the tables of docs/benchmarks.md anew from benchmarks/results/
#   make explain      the figures of the page How it works
#   make gallery      the recordings of the gallery anew; takes minutes on a machine that does nothing else
#   make screenshots  the README's pictures, from the running app and a real run

VENV ?= .venv
PYTHON ?= python3
PORT ?= 8501
PYTEST_OPTIONS ?=

BIN = $(VENV)/bin
APP = $(VENV)/.app-installed
DEV = $(VENV)/.dev-installed

.PHONY: run test lint format coverage bench tables explain gallery screenshots

run: $(APP)
	$(BIN)/python -m streamlit run app.py --server.port $(PORT)

# Browser tests run on their own: on a busy machine a page is too slow for them.
test: lint
	$(BIN)/python -m pytest -n 2 -m "not browser" $(PYTEST_OPTIONS)
	$(BIN)/python -m pytest -m browser $(PYTEST_OPTIONS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV)
	$(BIN)/python -m pytest -n 2 -m "not browser" --cov --cov-report=term --cov-report=html $(PYTEST_OPTIONS)

bench: $(DEV)
	$(BIN)/python -m benchmarks.solvers
	$(BIN)/python -m benchmarks.limits
	$(BIN)/python -m benchmarks.attack_speed
	$(BIN)/python -m benchmarks.app_overhead
	$(BIN)/python -m benchmarks.tables

tables: $(DEV)
	$(BIN)/python -m benchmarks.tables

explain: $(DEV)
	$(BIN)/python -m benchmarks.explain

gallery: $(APP)
	for script in assets/gallery/*.yaml; do $(BIN)/python -m deepleak_core record $$script || exit 1; done

screenshots: $(DEV)
	$(BIN)/python -m benchmarks.screenshots
	$(BIN)/python -m benchmarks.moving_picture

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(APP): requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(DEV): requirements-dev.txt $(APP)
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
