# `make run` and `make test` do everything on a fresh machine: they need Python 3.11-3.13 and make, nothing else.
BIN := .venv/bin
STAMP := .venv/.installed
# files are compiled once, and not by every process of a test
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup run check fast test test-all peers results clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(STAMP)  ## the main job on scikit-learn's digits: three arms, all labels and then 50 labels (5 to 10 minutes on 2 cores)
	$(BIN)/python run.py
	$(BIN)/python run.py experiment=few_labels

setup: $(STAMP)  ## build .venv/ with every extra that the tests need

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fast: $(STAMP)  ## the tests of config, plan and units alone (under a minute)
	$(BIN)/pytest -n auto -m "fast and not slow"

test: check  ## lint, types and the default tests
	$(BIN)/pytest -n auto --dist loadfile

test-all: check  ## the same with the slow tests
	$(BIN)/pytest -n auto --dist loadfile
	$(BIN)/pytest -m slow -n 2 --dist loadfile  # no more than two at a time: some measure time and memory

peers: $(STAMP)  ## torchdistill in .venv-peers/, for benchmarks/speed.py (its torchvision would break .venv)
	test -x .venv-peers/bin/python || $(BIN)/python -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check 'torchdistill>=1.1.5,<1.2' \
	  'torch>=2.6,<2.14' torchvision pyyaml safetensors

results: $(STAMP)  ## tables and plots of results/ from what is on disk in runs/ (scripts/reproduce.py trains)
	@for table in mnist cifar10 depth pairs curriculum_digits curriculum_mnist; do $(BIN)/python scripts/reproduce.py $$table --only-table $(REPRODUCE) || true; done

clean:  ## remove the environment and caches (never runs/)
	rm -rf .venv .venv-peers .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMP): pyproject.toml
	@python=; for p in python3 python3.13 python3.12 python3.11; do \
	  if $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; \
	  then python=$$p; break; fi; done; \
	if [ -z "$$python" ]; then echo "FitNets needs Python 3.11, 3.12 or 3.13 on PATH; found none"; exit 1; fi; \
	echo "setting up .venv with $$($$python --version)"; test -x $(BIN)/python || $$python -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)
