# Two commands: `make demo` watches a model learn, `make test` proves the parts.
PYTHON ?= python3
BIN := .venv/bin
# A GPU that answers chooses the `gpu` extra.
EXTRA := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
# Without cached bytecode every process would compile torch, ray and transformers anew, for about ten seconds.
unexport PYTHONDONTWRITEBYTECODE
# uv does not read pip's wheel directory; without one it knows by itself where a CPU's torch comes from.
ifdef PIP_FIND_LINKS
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
else
export UV_TORCH_BACKEND ?= $(if $(filter gpu,$(EXTRA)),auto,cpu)
endif

# In the order of tests/conftest.py, the longest first.
BY_FILE := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup demo tiny test test-fast verifiers bench bench-grader soak check docs proto format clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: .venv/installed ## Make .venv with everything in it

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo 'rankone needs Python 3.11 to 3.13: make PYTHON=python3.12 ...' >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	VIRTUAL_ENV=$(CURDIR)/.venv $(BIN)/uv pip install --quiet $(if $(filter cpu,$(EXTRA)),-c constraints.txt) -e '.[$(EXTRA),dev]'
	@touch $@

demo: setup ## Watch a rank-1 adapter learn two-digit addition, in a quarter of an hour on two CPU cores
	$(BIN)/rankone train examples/addition.toml

tiny: setup ## The same loop on a tiny random model, in half a minute
	$(BIN)/rankone train examples/tiny.toml

# Three processes are one more than two cores: a test often waits for what it started. What fails then is run once more,
# alone, as tests with deadlines can fail on a busy machine; both runs are printed, and what fails twice is a failure.
test: setup ## Run the whole test suite, in three processes
	$(BIN)/python -m pytest -n 3 $(BY_FILE) || { test $$? = 1 && $(BIN)/python -m pytest --last-failed; }

test-fast: setup ## Run the tests that start neither Ray nor vLLM nor a browser and are quick
	$(BIN)/python -m pytest -n 2 $(BY_FILE) -m "not (ray or vllm or browser or slow)"

verifiers: .venv-verifiers/installed ## Make an environment for tests/rl/serve/test_verifiers.py, which is skipped without

.venv-verifiers/installed: examples/verifiers/requirements.txt | setup
	@test -x .venv-verifiers/bin/python || $(PYTHON) -m venv .venv-verifiers
	VIRTUAL_ENV=$(CURDIR)/.venv-verifiers $(BIN)/uv pip install --quiet -r examples/verifiers/requirements.txt
	@touch $@

bench: setup ## How fast it is: against TRL, raw vLLM and a plain matrix product, on an idle machine
	$(BIN)/python bench/speed.py --publish

bench-grader: setup ## Compare the grader with math-verify alone, on the same cases, and attack it
	$(BIN)/python bench/grader.py
	$(BIN)/python bench/attacks.py

soak: setup ## Thousands of tiny steps while processes are killed: is anything lost, does anything grow?
	$(BIN)/python bench/soak.py

check: setup ## Format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports

proto: ## Write the messages of rankone serve anew from rl/wire/tinker.proto (needs protoc)
	protoc -Irl/wire --python_out=rl/wire --pyi_out=rl/wire rl/wire/tinker.proto

docs: setup ## Write docs/configuration.md anew from the configuration classes
	$(BIN)/python -m rl.cli.config_reference > docs/configuration.md

format: setup ## Reformat the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove the environment and caches; runs/ stays
	rm -rf .venv .venv-verifiers .pytest_cache .ruff_cache .hypothesis .import_linter_cache
