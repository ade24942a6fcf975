# `make train`: watch an agent learn. `make test`: the whole test suite. `make mutants`: whether
# the tests notice mistakes. `make docs`: the documentation as a site. Each sets up .venv first.
SHELL := /bin/bash
LOGDIR ?= runs/quickstart
WORKERS ?= 2
ARGS ?=

.PHONY: train test lint mutants docs clean

train:
	@bash .ci/setup train
	.venv/bin/dreamer train --configs quickstart --logdir $(LOGDIR) $(ARGS)
	@.venv/bin/dreamer report --logdir $(LOGDIR)
	@echo "Open $(LOGDIR)/report.html in a browser: learning curve, the policy's video, its imagination."

BROWSERS := chromium chromium-browser google-chrome

test:
	@bash .ci/setup test
	@marks="not slow"; command -v $(BROWSERS) >/dev/null || { marks="not slow and not browser"; \
	  echo ">> Tests of pages are left out: there is no Chromium."; }; \
	export JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax; \
	$(if $(ARGS),,.venv/onnx/bin/python -m pytest -m "not slow" tests/run/test_onnx.py &&) \
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "$$marks" $(ARGS)

lint:
	@bash .ci/setup test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

mutants:
	@bash .ci/setup test
	.venv/bin/python -m tests.mutants $(ARGS)

docs:
	@bash .ci/setup docs
	@echo ">> Building the site; the notebooks run in it, which takes minutes the first time."
	JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.cache/jax \
	.venv/bin/python -m sphinx -W --keep-going -b html -c docs . build/docs $(ARGS)
	@echo "Open build/docs/index.html in a browser."

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
