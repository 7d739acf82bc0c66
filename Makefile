# Every target builds .venv first when it is not there or pyproject.toml or constraints.txt changed.
SHELL := /bin/bash
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help demo test test-arm check protos bench

help:
	@echo "make demo    a coordinator and five boards on this machine; figures and files under out/"
	@echo "make test    the whole test suite"
	@echo "make test-arm the bundles on emulated boards (qemu), with the wheels that boards install"
	@echo "make check   format, lint, types, floors, protos, changelog"
	@echo "make protos  regenerate reefleet/v1 from proto/"
	@echo "make bench   start-up time and memory of each command"

demo: $(STAMP)
	@$(BIN)/reefleet demo $(ARGS)

test: $(STAMP)
	@scripts/debian-packages
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 $(ARGS)

test-arm: $(STAMP)
	@REEFLEET_ARM=1 $(BIN)/python -m pytest tests/export/test_arm.py $(ARGS)

check: $(STAMP)
	@scripts/check

protos:
	@scripts/protos

bench: $(STAMP)
	@$(BIN)/python benchmarks/start_up.py

$(STAMP): pyproject.toml constraints.txt
	@scripts/install
