# ChRIS on MOC. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

SITE ?= embedded
PROFILE ?= full
PFMOC_CACHE ?= $(HOME)/.cache/pfmoc
WORKFLOW ?= workflows/dicom.yml
INPUT ?= workflows/dicom-input.yml
# Processes that run the tests beyond `make check`, each with a box of its own, of about 5 GiB of memory; 0: one, without more.
WORKERS ?= 2
BY_FILES = --dist loadfile --no-loadscope-reorder --verbose --durations=25

# All that is written lies in this directory and below PFMOC_CACHE.
export PFMOC_CACHE
export UV_CACHE_DIR ?= $(PFMOC_CACHE)/uv-cache
export UV_PYTHON_DOWNLOADS := never
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export ANSIBLE_HOME := $(PFMOC_CACHE)/ansible
export ANSIBLE_REMOTE_TEMP := $(PFMOC_CACHE)/ansible/tmp
# Images of containers often set this; every program would compile its libraries anew, at each start.
unexport PYTHONDONTWRITEBYTECODE
# Ansible refuses to start in a locale without UTF-8, which is what a bare machine has.
export LC_ALL := C.UTF-8

# The uv that is there, if it works (a version manager's stub may not), else one of our own.
export UV := $(shell if uv --version >/dev/null 2>&1; then command -v uv; else echo '$(PFMOC_CACHE)/uv/bin/uv'; fi)
# Sites that have the daemon: on a host, or in a cluster.
SITES := $(filter-out common,$(patsubst inventories/%/hosts.yml,%,$(shell grep --files-with-matches '^pfmoc:' inventories/*/hosts.yml)))
# A site on the box has one made first, of the profile that it is named after.
ON_BOX = $(filter box%,$(SITE))
SITE_PROFILE = $(or $(patsubst box-%,%,$(filter box-%,$(SITE))),full)
GROUPS = --group up $(if $(filter $(SITE),$(CLOUDS)),--group infra)
# The directory of what a user of the daemon needs, and what the runner reads there.
ACCESS = $(PFMOC_CACHE)/$(if $(filter $(SITE),$(CLOUDS)),daemon-$(SITE)/access.env,daemon/pfmoc.env)
# Sites whose clouds Pulumi makes match the site file.
CLOUDS := $(patsubst inventories/%/site.yml,%,$(shell grep --files-with-matches '^clouds:' inventories/*/site.yml))
# What Pulumi has told of a site comes last. There is none before `make infra`.
EXPORTED = $(PFMOC_CACHE)/pulumi/inventories/$(SITE)
ANSIBLE = from=(--inventory inventories/common --inventory 'inventories/$(SITE)'); \
	if [[ -d '$(EXPORTED)' ]]; then from+=(--inventory '$(EXPORTED)'); fi; .venv/bin/ansible-playbook "$${from[@]}"
PROFILES := full openstack openshift
BOX_DIR = $(PFMOC_CACHE)/box
BOX_ANSIBLE = .venv/bin/ansible-playbook --inventory inventories/common --inventory \
	inventories/$(if $(filter full,$(PROFILE)),box,box-$(PROFILE))
# The box's commands, in the environment that it runs in; without one there is no box.
BOXCTL = if [[ ! -x '$(BOX_DIR)/env/bin/python' ]]; then echo 'There is no box: make box' >&2; exit 3; fi; \
	'$(BOX_DIR)/env/bin/python' roles/box/files/boxctl.py --directory '$(BOX_DIR)'
# The operator's commands. A site on the box finds its clouds in the box's environment; the site file says which entry is meant.
INFRA = '$(UV)' sync --quiet --frozen --inexact --group infra \
	&& if [[ '$(SITE)' == box* && -f '$(BOX_DIR)/env.sh' ]]; then . '$(BOX_DIR)/env.sh'; fi \
	&& unset OS_CLOUD && .venv/bin/python -m infra
# Python that is no part of a package: programs of the roles, plugins of Ansible.
PROGRAMS = $(wildcard roles/*/files/*.py roles/*/files/*/*.py playbooks/*/*.py .config/molecule/inventory/*.py)

# $(call timed,WHAT,COMMAND): run COMMAND and print WHAT with the time it took, in the form of the playbooks' steps.
timed = began=$${EPOCHREALTIME/[.,]/}; $(2) \
	&& took=$$(( ($${EPOCHREALTIME/[.,]/} - began) / 100000 )) \
	&& printf '  %-88s %-7s %4d.%d s\n' '$(1)' ok $$((took / 10)) $$((took % 10))

.PHONY: help
help: ## List the commands
	@echo 'Usage: make COMMAND [SITE=embedded|box|moc] [PORT=5005] [PFMOC_COMPUTE=podman|process] [PFMOC_CACHE=DIRECTORY]'
	@echo '       make box [PROFILE=full|openstack|openshift] [PORT_BASE=27350]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: up
up: site $(UV) ## From nothing: the box if the site is on it, its clouds, images, the daemon; then run a workflow through it
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc'
	@echo 'Python environment'
	@$(call timed,Ensure that .venv holds what uv.lock names,'$(UV)' sync --quiet --frozen --inexact $(GROUPS))
	@$(if $(ON_BOX),$(MAKE) box PROFILE='$(SITE_PROFILE)')
	@$(if $(filter $(SITE),$(CLOUDS)),echo 'Clouds' && $(INFRA) up '$(SITE)' $(if $(YES)$(ON_BOX),--yes) $(INFRA_FLAGS))
	@$(ANSIBLE) playbooks/site.yml
	@echo 'Workflow'
	@.venv/bin/python -m workflows.runner $(WORKFLOW) --input $(INPUT) --env-file '$(ACCESS)' $(RUN_FLAGS)

.PHONY: down
down: site ## Stop the daemon, the container engine and what they run; the box
	@if [[ -x .venv/bin/ansible-playbook ]]; then $(ANSIBLE) playbooks/down.yml; else echo 'There is nothing to stop: no .venv'; fi
	@if [[ -d '$(BOX_DIR)' ]]; then $(MAKE) box-down; fi

.PHONY: clean
clean: site ## Stop everything and remove all that was made: the cache with the results, the box, .venv
	@if [[ -d '$(BOX_DIR)' ]]; then $(MAKE) box-clean; fi
	@if [[ -x .venv/bin/ansible-playbook ]]; then $(ANSIBLE) playbooks/clean.yml; fi
	@if [[ -e '$(PFMOC_CACHE)' && ! -e '$(PFMOC_CACHE)/.pfmoc' ]]; then \
		echo "$(PFMOC_CACHE) was not made by \`make up\`; it is left alone" >&2; exit 1; fi
	@rm -rf '$(PFMOC_CACHE)' .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible
	@find . -name __pycache__ -prune -exec rm -rf {} +

.PHONY: images
images: ready ## Make the images of the daemon and of the plugins; a cluster of the box is given them
	@$(ANSIBLE) playbooks/images.yml

.PHONY: daemon
daemon: ready ## Install the daemon of a site, and nothing else
	@$(ANSIBLE) playbooks/images.yml playbooks/daemon.yml

.PHONY: verify
verify: ready ## Use a site's daemon as a user does: token, jobs on each architecture and GPU, output, nothing left
	@export VERIFY=1; $(ANSIBLE) playbooks/verify.yml

.PHONY: register
register: ready ## Tell what to enter in CUBE for a site's daemon; PASSWORD=1 with the password
	@$(ANSIBLE) playbooks/register.yml

.PHONY: upgrade
upgrade: ready ## Install this checkout's daemon without refusing a request, verify it, and go back if it fails
	@$(ANSIBLE) playbooks/upgrade.yml

.PHONY: rollback
rollback: ready ## Go back to the revision of the daemon before the present one, or to TO=3, TO=sha256:...
	@$(ANSIBLE) playbooks/rollback.yml

.PHONY: preview
preview: clouds $(UV) ## Show what `make up` would change in a site's clouds, and what would be refused
	@$(INFRA) preview '$(SITE)' $(INFRA_FLAGS)

.PHONY: drift
drift: clouds $(UV) ## Tell what in a site's clouds is not as its file says. Exit status of the command: 0 in step, 2 drifted, 3 unknown
	@$(INFRA) drift '$(SITE)' $(if $(JSON),--json) $(INFRA_FLAGS)

.PHONY: destroy
destroy: clouds $(UV) ## Delete all that `make up` made in a site's clouds, and list what stays; YES=1 does not ask
	@$(INFRA) destroy '$(SITE)' $(if $(YES),--yes) $(INFRA_FLAGS)

.PHONY: box
box: profile $(UV) ## Make a cloud on loopback: OpenStack, Kubernetes, OpenShift; with PROFILE=openstack only the first, without root
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc'
	@$(box-env)
	@began=$$EPOCHSECONDS; $(BOX_ANSIBLE) playbooks/box.yml && { $(BOXCTL) usage --seconds $$((EPOCHSECONDS - began)); }

.PHONY: box-status
box-status: ## Show the box's services; JSON=1: for programs. Exit status of the command: 0 all healthy, 1 not all, 3 nothing runs
	@$(BOXCTL) status $(if $(JSON),--json)

.PHONY: box-logs
box-logs: ## Show the box's logs: S=keystone, a group (S=openstack) or a beginning (S=swift); F=1 follows, N=100 lines
	@$(BOXCTL) logs $(if $(S),'$(S)') $(if $(N),--lines '$(N)') $(if $(F),--follow)

.PHONY: box-down
box-down: $(UV) ## Stop the box; `make box` goes on with what it held
	@if [[ -d '$(BOX_DIR)' ]]; then $(box-env) && $(BOX_ANSIBLE) playbooks/box-down.yml; else echo 'There is no box'; fi

.PHONY: box-clean
box-clean: $(UV) ## Remove the box with all that it held; what was built for it stays
	@if [[ -d '$(BOX_DIR)' ]]; then $(box-env) && $(BOX_ANSIBLE) playbooks/box-clean.yml; else echo 'There is no box'; fi
	@$(forget-stacks)

.PHONY: box-image
box-image: ## Give the box's cluster the images of an archive: F=archive.tar
	@if [[ ! -f '$(F)' ]]; then echo 'Name the archive of an image: make box-image F=archive.tar' >&2; exit 2; fi
	@$(box-env) && F='$(F)' $(BOX_ANSIBLE) playbooks/box-image.yml

.PHONY: box-nodes
box-nodes: ## Simulate nodes in the box's cluster: POOLS=pools.yml; without it, remove them
	@$(in-cluster)
	@KUBECONFIG='$(BOX_DIR)/kubeconfig' KUBECACHEDIR='$(BOX_DIR)/kubernetes/kubectl-cache' '$(BOX_DIR)/env/bin/python' \
		roles/box_kubernetes/files/simulated_nodes.py --kubectl '$(PFMOC_CACHE)/toolchain/bin/kubectl' < '$(or $(POOLS),/dev/null)'

.PHONY: box-user
box-user: ## Make a kubeconfig for an ordinary user of the box's cluster: U=carol [G="staff more"]
	@$(in-cluster)
	@if [[ -z '$(U)' ]]; then echo 'Name the user: make box-user U=carol [G="staff more"]' >&2; exit 2; fi
	@$(box-env) && PYTHONPATH=roles/box_openshift/files .venv/bin/python -m box_openshift.users --kubeconfig '$(BOX_DIR)/kubeconfig' \
		--directory '$(BOX_DIR)/users' $(addprefix --group=,$(G)) '$(U)'

.PHONY: box-measure
box-measure: profile $(UV) ## Remove the box, make it anew and write what that takes to docs/reference/box.md; COLD=1: with empty caches
	@$(box-env)
	@.venv/bin/python roles/box/files/measure.py --cache '$(PFMOC_CACHE)' --profile '$(PROFILE)' $(if $(COLD),--cold)

.PHONY: check
check: dev ## Lint, types, unit and contract tests: four minutes on two cores
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/mypy --strict workflows/runner workflows/verify.py
	MYPYPATH=roles/plugin_images/files .venv/bin/mypy --strict --no-explicit-package-bases --no-namespace-packages $(PROGRAMS)
	.venv/bin/yamllint --strict .
	.venv/bin/ansible-lint
	.venv/bin/python -m pytest -n auto tests/unit tests/contract

.PHONY: test
test: check ## check, then the box, roles, containers, crossing workflows, faults, `make up` for real
	.venv/bin/python -m pytest -n $(WORKERS) $(BY_FILES) tests --ignore=tests/unit --ignore=tests/contract

.PHONY: dev
dev: $(UV)
	@'$(UV)' sync --quiet --locked --inexact --group dev

in-cluster = if [[ ! -e '$(BOX_DIR)/kubeconfig' ]]; then echo 'There is no box with Kubernetes: make box' >&2; exit 3; fi

# What Pulumi knows of clouds that are gone. The settings in infra/ belong to a state; another cache's are left alone.
forget-stacks = state='$(PFMOC_CACHE)/pulumi'; for site in $(filter box%,$(CLOUDS)); do \
	for stack in "$$state"/state/.pulumi/stacks/*/"$$site.json"; do \
	if [[ -e "$$stack" ]]; then rm -rf "$$stack"* "infra/Pulumi.$$site.yaml" "$$state/passphrases/$$site" "$$state/inventories/$$site" \
	'$(PFMOC_CACHE)'/daemon-"$$site"; fi; done; done

# What the box's playbooks need.
box-env = '$(UV)' sync --quiet --frozen --inexact --group up

.PHONY: profile
profile:
	@if [[ ! ' $(PROFILES) ' == *' $(PROFILE) '* ]]; then echo "There is no profile '$(PROFILE)'. There are: $(PROFILES)" >&2; exit 2; fi

# What the playbooks of a site need.
.PHONY: ready
ready: site $(UV)
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc'
	@'$(UV)' sync --quiet --frozen --inexact $(GROUPS)

.PHONY: clouds
clouds:
	@if [[ ! ' $(CLOUDS) ' == *' $(SITE) '* ]]; then echo "There is no site '$(SITE)' with clouds. There are: $(CLOUDS)" >&2; exit 2; fi
	@mkdir -p '$(PFMOC_CACHE)' && touch '$(PFMOC_CACHE)/.pfmoc'

.PHONY: infra
infra: clouds $(UV) ## Make a site's clouds match its file: the first part of `make up`; YES=1 does not ask
	@$(INFRA) up '$(SITE)' $(if $(YES),--yes) $(INFRA_FLAGS)

.PHONY: site
site:
	@if [[ ! ' $(SITES) ' == *' $(SITE) '* ]]; then echo "There is no site '$(SITE)' to put the daemon on. There are: $(SITES)" >&2; exit 2; fi

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
