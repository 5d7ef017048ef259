# Set-up is part of every target and is reused while requirements.lock does not change.
PYTHON ?= python3
UV_VERSION := 0.13.8
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GL_PACKAGES := libosmesa6 libegl1 libegl-mesa0 libgl1-mesa-dri libgles2 libglx-mesa0 libgl1
export PATH := $(CURDIR)/$(BIN):$(PATH)
export NUMBA_CACHE_DIR := $(CURDIR)/$(VENV)/numba

.PHONY: demo test chaos bench lint setup lock clean

demo: setup matte-model  ## the main job on generated shoes: CPU, offline, a few minutes
	python -P -m benchmarks.demo

test: setup matte-model  ## the tests, except slow ones and those that need a GPU
	pytest -n 2 --dist loadfile -m "not slow and not gpu"

chaos: setup  ## the slow tests: fault tests at full counts, servers, long trainings
	pytest -m "slow and not gpu"

bench: setup  ## the figures in the README
	python -m benchmarks

lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "lostwax needs Python 3.11 or later: make PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python --editable .
	@python -P -c 'from models.rendering.context import gl_context; gl_context()' 2>/dev/null || $(MAKE) --no-print-directory install-gl
	@touch $@

.PHONY: matte-model
matte-model: setup  ## what cuts objects out of photos, 4.6 MB; where it cannot be had, photos wait and all else goes on
	@lostwax fetch-model u2netp || true

.PHONY: install-gl
install-gl:  ## headless OpenGL from Debian's packages
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(GL_PACKAGES) >/dev/null; \
	else \
		echo "headless OpenGL is missing; run: sudo apt-get install --no-install-recommends $(GL_PACKAGES)"; exit 1; \
	fi

lock:  ## resolve requirements.lock anew
	$(BIN)/uv pip compile pyproject.toml --all-extras --generate-hashes --no-emit-index-url --no-header --no-annotate --python-version 3.11 -o requirements.lock

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
