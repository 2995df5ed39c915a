# `make demo` shows what the library does, `make test` checks it. Both set up .venv on their own.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/demo

.PHONY: help demo test lint bench bench-render clean

help:
	@echo "make demo          train IODINE for some minutes and write an HTML report"
	@echo "make test          lint and run all tests"
	@echo "make bench         speed and memory beside a plain implementation (half an hour)"
	@echo "make bench-render  speed of rendered datasets (ten minutes)"
	@echo "make clean         remove .venv"

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("unscene needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=python3.x" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/render: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,render]'
	touch $@

demo: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" sh scripts/demo.sh $(RUN)

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint .venv/render
	$(BIN)/python -m pytest -n 2

bench: .venv/ready
	$(BIN)/python benchmarks/bench_iodine.py --json benchmarks/results.json
	$(BIN)/python benchmarks/bench_provide.py --json benchmarks/results-video.json
	$(BIN)/python benchmarks/bench_models.py --json benchmarks/results-models.json
	$(BIN)/python benchmarks/bench_sprites.py --json benchmarks/results-sprites.json

bench-render: .venv/render
	$(BIN)/python benchmarks/bench_render.py --json benchmarks/results-render.json

clean:
	rm -rf .venv
