# Every target builds .venv first when it is missing or older than pyproject.toml.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
JOBS   ?= 2

.PHONY: help setup demo exam-demo comparison test lint slow mutants docs wheelhouse sbom clean

help:
	@echo "make setup   build $(VENV) (no compiler, no GPU, no sudo)"
	@echo "make demo    paint studies, convert, train in steps, publish, report on one (minutes)"
	@echo "make exam-demo   the four exam systems on painted exams, in one table"
	@echo "make comparison   all nine steps and their controls, with intervals (half an hour on 2 cores with bfloat16)"
	@echo "make test    run the tests (about 5 minutes on a recent CPU with 2 cores)"
	@echo "make slow    run the longer tests"
	@echo "make lint    ruff and mypy"
	@echo "make mutants put faults in, one at a time, and see whether the tests notice (hours)"
	@echo "make docs    the documentation as a site, in site/index.html"
	@echo "make wheelhouse  all that an installation without a network needs, in deploy/wheelhouse"
	@echo "make sbom    the packages it brings, with versions and licences (CycloneDX), in sbom.cdx.json"
	@echo "make clean   remove $(VENV) and caches; data and work_dirs stay"

setup: $(READY)

$(READY): pyproject.toml setup.py pe_unified/version.py
	@echo "[setup] virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v in ((3, 11), (3, 12)) else f"pe_unified needs Python 3.11 or 3.12, this is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) >/dev/null || { \
		test -e $(BIN)/activate || rm -rf $(VENV); \
		echo "[setup] $(PYTHON) makes no virtual environment; on Debian and Ubuntu: apt-get install python3-venv, then make setup again" >&2; \
		exit 1; }
	@echo "[setup] uv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "[setup] torch, the OpenMMLab stack and pe_unified (a few GB on the first run, then from uv's cache)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[cluster,export,pacs,test,lint]'
	@# What it loads is compiled and kept, also where the environment keeps nothing else.
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pe_unified doctor
	@touch $@

demo: $(READY)
	$(BIN)/python -m pe_unified demo

exam-demo: $(READY)
	$(BIN)/python -m pe_unified exam-demo

comparison: $(READY)
	$(BIN)/python -m pe_unified demo --comparison

test: $(READY)
	@# Bytecode is kept whatever the shell says: the workers and their processes load the same files.
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

slow: $(READY)
	@$(BIN)/uv pip install --quiet --upgrade-package mlflow --upgrade-package wandb --python $(BIN)/python -e '.[tracking]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow --timeout 3600

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

mutants: $(READY)
	$(BIN)/python tests/mutate.py --jobs $(JOBS)

docs: $(READY)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

wheelhouse: $(READY)
	$(BIN)/python tools/wheelhouse.py

sbom: $(READY)
	$(BIN)/python tools/sbom.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
