# make run    a simulated humanoid and its twin, with a live status; Ctrl-C ends it
# make test   colcon build, colcon test, colcon test-result
# make bench  the benchmarks, as one table
# make setup  the set-up that the others do first
#
# Where ROS 2 is sourced (ROS_DISTRO is set) it is used; otherwise ROS 2 Jazzy comes as wheels. All goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
# A venv made for one kind of ROS does not serve another.
KIND := $(if $(ROS_DISTRO),$(ROS_DISTRO),wheels)
READY := $(VENV)/.ready-$(KIND)
TEST_READY := $(VENV)/.test-ready-$(KIND)
ARGS ?=

ifeq ($(KIND),wheels)
  PACKAGE := .[ros]
  VENV_FLAGS :=
else
  PACKAGE := .
  VENV_FLAGS := --system-site-packages
endif

PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help setup run test bench clean

help:
	@sed -n '1,4s/^# //p' Makefile

setup: $(READY)

# The messages of a sourced ROS 2 were compiled against its own numpy; another version would crash them.
$(READY): setup.py
	@echo "setting up $(VENV) ($(KIND)) …"
	@if [ ! -x $(BIN)/python ] || ! ls $(VENV)/.*ready-$(KIND) >/dev/null 2>&1; then rm -rf $(VENV); $(PYTHON) -m venv $(VENV_FLAGS) $(VENV); fi
	@if [ "$(KIND)" = wheels ]; then : > $(VENV)/constraints.txt; else \
	  $(PYTHON) -c 'import numpy; print(f"numpy=={numpy.__version__}")' > $(VENV)/constraints.txt; fi
	@$(PIP) install "setuptools<80" wheel
	@$(PIP) install -c $(VENV)/constraints.txt --use-pep517 --no-build-isolation -e "$(PACKAGE)"
	@touch $@

$(TEST_READY): $(READY)
	@echo "installing what the tests need …"
	@$(PIP) install -c $(VENV)/constraints.txt --use-pep517 --no-build-isolation -e ".[test]"
	@touch $@

run: $(READY)
	@exec $(BIN)/digital-twin run $(ARGS)

COLCON := PATH="$(BIN):$$PATH" $(BIN)/python -m colcon
TEST_ONCE := $(COLCON) test --packages-select digital_twin --base-paths . --event-handlers console_direct+ --return-code-on-test-failure

# What starts nodes (marked live) wants the machine for itself; all else is tested first, on all cores.
test: $(TEST_READY)
	$(COLCON) build --packages-select digital_twin --base-paths . --event-handlers console_direct-
	@rm -rf build/results; failed=0; options="$${PYTEST_ADDOPTS:-}"; export PYTEST_ADDOPTS; \
	PYTEST_ADDOPTS="$$options -m 'not live' -n logical --maxprocesses 8 --dist loadfile"; \
	$(TEST_ONCE) --test-result-base build/results/parallel || failed=1; \
	PYTEST_ADDOPTS="$$options -m live"; \
	$(TEST_ONCE) --test-result-base build/results/live || failed=1; \
	$(COLCON) test-result --test-result-base build/results --verbose || failed=1; exit $$failed

bench: $(READY)
	@$(BIN)/python -m benchmark $(ARGS)

clean:
	rm -rf build install log .venv *.egg-info
