# The two commands that matter are `make demo` and `make test`. All of them make .venv first, and need nothing but
# make and Python 3.11 or newer; `make PYTHON=python3.12 test` names one that is not called python3.

PYTHON ?= python3
# Fast tests side by side; the slow tier has builds and trainings to itself.
JOBS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed
PEERS := .venv/peers-installed
DEMO := data/demo
LEVELS := --level 640x480 --level 320x240 --level 160x120
SMALL := --encoder resnet18 --size 160x120

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1

.PHONY: help demo test test-slow soak bench docs lint clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       render a small sample, build and check its stores, train on them, predict a picture"
	@echo "make test       lint, then the fast tests, two side by side; JOBS=8 for more"
	@echo "make test-slow  every test, the slow ones too"
	@echo "make soak       over an hour of kills, faults, flipped bits and hostile files; writes docs/reliability.md"
	@echo "make bench      install what is compared with, measure, print tables, keep JSON and pictures in build/bench"
	@echo "make docs       the documentation as a site, in build/docs; a warning is an error"
	@echo "make lint       ruff and mypy"
	@echo "make clean      remove what these commands made, never data/raw or data/stores"

# Plain enough to run on any Python 3, which then says that it is too old.
define CHECK_PYTHON
import importlib.util, sys
if sys.version_info < (3, 11):
    sys.exit("%s is Python %d.%d, wanted 3.11 or newer: make PYTHON=... names another" % ((sys.executable,) + sys.version_info[:2]))
if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
    sys.exit("%s has no venv, wanted it whole: on Debian and Ubuntu, apt install python3-venv" % sys.executable)
endef
export CHECK_PYTHON

$(INSTALLED): pyproject.toml $(wildcard gfield/native/*)
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) is not there, wanted Python 3.11 or newer: make PYTHON=... names one" >&2; exit 1; }
	@"$(PYTHON)" -c "$$CHECK_PYTHON"
	@echo "Installing into .venv, which takes a minute or two"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# The sample is rendered anew, so that a demo never meets the files of another version.
demo: $(INSTALLED)
	@echo "Rendering 24 rooms and 4 streets in the formats of NYU Depth v2 and Make3D"
	$(BIN)/gfield sample $(DEMO) --rooms 24 --outdoor 4 --overwrite
	@echo "What a build would do"
	$(BIN)/gfield plan nyu $(DEMO)/nyu/nyu_depth_v2_labeled.mat $(DEMO)/nyu.zarr $(LEVELS) --overwrite
	@echo "Building both stores"
	$(BIN)/gfield build nyu $(DEMO)/nyu/nyu_depth_v2_labeled.mat $(DEMO)/nyu.zarr $(LEVELS) --overwrite
	$(BIN)/gfield build make3d $(DEMO)/make3d $(DEMO)/make3d.zarr --overwrite
	@echo "Checking every hash, and every field against the operator"
	$(BIN)/gfield verify $(DEMO)/nyu.zarr --all
	$(BIN)/gfield verify $(DEMO)/make3d.zarr --all
	@echo "What is in a store, and how it looks"
	$(BIN)/gfield info $(DEMO)/nyu.zarr
	$(BIN)/gfield preview $(DEMO)/nyu.zarr --out $(DEMO)/nyu.png --frames 4
	$(BIN)/gfield preview $(DEMO)/make3d.zarr --out $(DEMO)/make3d.png --frames 4
	@echo "Pre-training on pictures and fields, then depth from a few rooms: minutes, not weeks, so expect little"
	$(BIN)/train pretrain $(DEMO)/nyu.zarr --out $(DEMO)/pretrained $(SMALL) --batch 4 --epochs 8 --overwrite
	$(BIN)/train finetune $(DEMO)/nyu.zarr --out $(DEMO)/finetuned --init $(DEMO)/pretrained $(SMALL) --batch 4 --epochs 20 --lr 5e-4 --overwrite
	$(BIN)/train evaluate $(DEMO)/nyu.zarr $(DEMO)/finetuned --protocol nyu-eigen
	@echo "A picture out of the store by plain zarr, and its depth"
	$(BIN)/python -c "import cv2, zarr; cv2.imwrite('$(DEMO)/room.png', zarr.open('$(DEMO)/nyu.zarr')['640x480/rgb'][20][..., ::-1])"
	$(BIN)/train predict $(DEMO)/room.png --run $(DEMO)/finetuned
	@echo "Done. Pictures: $(DEMO)/nyu.png, $(DEMO)/make3d.png and $(DEMO)/room-depth*.png"

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python -m mypy

test: lint
	@$(BIN)/python -m pytest -m "not slow" -n $(JOBS) --dist worksteal

test-slow: lint
	@$(BIN)/python -m pytest

soak: $(INSTALLED)
	@$(BIN)/python -m tests.trust.soak

# Beside what the tests run with, and without another version of any of it.
$(PEERS): $(INSTALLED) tests/benchmarks/peers.py
	@echo "Installing what the benchmarks compare with, which takes a minute or two"
	@$(BIN)/python tests/benchmarks/peers.py
	@touch $@

bench: $(PEERS)
	@$(BIN)/python tests/benchmarks

# With --quiet MkDocs would not hear its own warnings, and so not end with an error. The test of the site does the same.
docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "build/docs/index.html"

clean:
	rm -rf .venv build gfield.egg-info $(DEMO) .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find cli.py gfield train tests -name __pycache__ -prune -exec rm -rf {} +
