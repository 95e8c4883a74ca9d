# ChRIS on MOC. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SITE ?= embedded
PFMOC_CACHE ?= $(HOME)/.cache/pfmoc
WORKFLOW ?= workflows/dicom.yml
INPUT ?= workflows/dicom-input.yml

# All that is written lies in this directory and below PFMOC_CACHE.
export PFMOC_CACHE
export UV_CACHE_DIR ?= $(PFMOC_CACHE)/uv-cache
export UV_PYTHON_DOWNLOADS := never
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(PFMOC_CACHE)/ansible
export ANSIBLE_REMOTE_TEMP := $(PFMOC_CACHE)/ansible/tmp
# Ansible refuses to start in a locale without UTF-8, which is what a bare machine has.
export LC_ALL := C.UTF-8

# The uv that is there, if it works (a version manager's stub may not), else one of our own.
export UV := $(shell if uv --version >/dev/null 2>&1; then command -v uv; else echo '$(PFMOC_CACHE)/uv/bin/uv'; fi)
SITES := $(filter-out common,$(patsubst inventories/%/site.yml,%,$(wildcard inventories/*/site.yml)))
ANSIBLE = .venv/bin/ansible-playbook --inventory inventories/common --inventory inventories/$(SITE)
# Python that is no part of a package: programs of the roles, plugins of Ansible.
PROGRAMS = $(wildcard roles/*/files/*.py roles/*/files/*/*.py roles/*/library/*.py playbooks/callback_plugins/*.py)

# $(call timed,WHAT,COMMAND): run COMMAND and print WHAT with the time it took, in the form of the playbooks' steps.
timed = began=$${EPOCHREALTIME/[.,]/}; $(2) \
	&& took=$$(( ($${EPOCHREALTIME/[.,]/} - began) / 100000 )) \
	&& printf '  %-88s %-7s %4d.%d s\n' '$(1)' ok $$((took / 10)) $$((took % 10))

.PHONY: help
help: ## List the commands
	@echo 'Usage: make COMMAND [SITE=embedded] [PORT=5005] [PFMOC_COMPUTE=podman|process] [PFMOC_CACHE=DIRECTORY]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: up
up: site $(UV) ## Start the daemon and run a workflow through it
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc'
	@echo 'Python environment'
	@$(call timed,Ensure that .venv holds what uv.lock names,'$(UV)' sync --quiet --frozen --inexact --group up)
	@$(ANSIBLE) playbooks/site.yml
	@echo 'Workflow'
	@.venv/bin/python -m workflows.runner $(WORKFLOW) --input $(INPUT) $(RUN_FLAGS)

.PHONY: down
down: site ## Stop the daemon, the container engine and what they run
	@if [[ -x .venv/bin/ansible-playbook ]]; then $(ANSIBLE) playbooks/down.yml; else echo 'There is nothing to stop: no .venv'; fi

.PHONY: clean
clean: site ## Stop everything and remove all that was made: the cache with the results, .venv
	@if [[ -x .venv/bin/ansible-playbook ]]; then $(ANSIBLE) playbooks/clean.yml; fi
	@if [[ -e '$(PFMOC_CACHE)' && ! -e '$(PFMOC_CACHE)/.pfmoc' ]]; then \
		echo "$(PFMOC_CACHE) was not made by \`make up\`; it is left alone" >&2; exit 1; fi
	@rm -rf '$(PFMOC_CACHE)' .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible
	@find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: check
check: dev ## Lint, types, unit and contract tests: about a minute
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --strict workflows/runner
	MYPYPATH=roles/plugin_images/files .venv/bin/mypy --strict --no-explicit-package-bases --no-namespace-packages $(PROGRAMS)
	.venv/bin/yamllint --strict .
	.venv/bin/ansible-lint
	.venv/bin/python -m pytest -n auto tests/unit tests/contract

.PHONY: test
test: check ## Everything: check, then containers, crossing workflows, faults, OpenAPI, `make up` for real
	.venv/bin/python -m pytest tests --ignore=tests/unit --ignore=tests/contract

.PHONY: dev
dev: $(UV)
	@'$(UV)' sync --quiet --locked --inexact --group dev

.PHONY: site
site:
	@if [[ ! ' $(SITES) ' == *' $(SITE) '* ]]; then echo "There is no site '$(SITE)'. There are: $(SITES)" >&2; exit 2; fi

# Only where there is no uv: from PyPI, with what this Python can install with.
$(PFMOC_CACHE)/uv/bin/uv:
	@command -v python3 >/dev/null || { echo 'python3 is missing: apt-get install python3' >&2; exit 1; }
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, python3 is $$(python3 -V): Debian 12 has it as python3" >&2; exit 1; }
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc' && rm -rf '$(PFMOC_CACHE)/uv'
	@echo 'Installer'
	@$(call timed,Ensure that uv is there,bash -c "$$BOOTSTRAP")

define BOOTSTRAP
set -e
pip='install --quiet --no-cache-dir --disable-pip-version-check --root-user-action=ignore'
if python3 -c 'import ensurepip, venv' 2>/dev/null; then
    python3 -m venv "$$PFMOC_CACHE/uv"
    "$$PFMOC_CACHE/uv/bin/python" -m pip $$pip uv
elif python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip $$pip --target "$$PFMOC_CACHE/uv" uv
elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update && apt-get -qq install --no-install-recommends python3-venv >/dev/null
    python3 -m venv "$$PFMOC_CACHE/uv"
    "$$PFMOC_CACHE/uv/bin/python" -m pip $$pip uv
else
    echo 'uv is missing, and python3 has neither venv nor pip to install it with: apt-get install python3-venv' >&2
    exit 1
fi
endef
export BOOTSTRAP
