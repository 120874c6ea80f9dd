# Everything works from a fresh clone with Python 3.11 and make; nothing is installed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# pip compiles every module it installs, the test suites of numpy, onnx and sympy among them. Left
# out, and without the old setuptools that Python 3.11 puts into a new environment, the base install
# takes 298 MB instead of 344 and starts as fast.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable
COMPILE = $(BIN)/python -m compileall -q -j 0 -x '/(tests?|testing|backend|pip|setuptools|pkg_resources)/' \
	$(VENV)/lib

# A torch without CUDA, which is gigabytes, where pip finds one: a wheel 2.13.0+cpu goes before 2.13.0,
# not before 2.14. `make TORCH=` takes whatever is newest.
TORCH ?= 'torch<2.14'

.PHONY: demo test test-extras setup setup-dev setup-all lint bench clean

demo: $(VENV)/.base
	$(BIN)/python examples/digits/demo.py

# Files of tests go to as many processes as there are cores; what is timed runs by itself.
TOGETHER = $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m
EXTRAS = litert or tensorflow or torch or ethos_u or qnn or tflm or genai or arm

test: $(VENV)/.dev
	$(TOGETHER) 'not alone'
	$(BIN)/python -m pytest -m alone

# What the base install cannot run; with every extra nothing may be skipped for want of one.
test-extras: $(VENV)/.all
	QCOMPILE_ALL_EXTRAS=1 $(TOGETHER) '$(EXTRAS)'

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks

setup: $(VENV)/.base
setup-dev: $(VENV)/.dev
setup-all: $(VENV)/.all

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("qcompile needs Python 3.11 or newer: make PYTHON=python3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip uninstall --quiet --yes setuptools

$(VENV)/.base: pyproject.toml | $(VENV)/bin/python
	$(INSTALL) .
	$(COMPILE)
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.base
	$(INSTALL) '.[dev]'
	$(COMPILE)
	touch $@

$(VENV)/.all: pyproject.toml $(VENV)/.dev
	$(INSTALL) '.[dev,ethos-u,examples,genai,qat,qnn,tensorflow,tflite,tflm,torch]' $(TORCH)
	$(COMPILE)
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
