# What a developer types. `make practice` and `make test` are all that a new machine needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real parts for the tests: a target, a load generator, file systems, a terminal.
DEBS := tgt open-isns-server libiscsi-bin fio tmux e2fsprogs xfsprogs btrfs-progs util-linux mount fdisk procps psmisc \
	iproute2 librsvg2-bin fonts-firacode tshark
BENCH_DEBS := gcc libc6-dev libiscsi-dev pkg-config
LAB_DEBS := debootstrap qemu-system-x86 e2fsprogs
RUN_DEBS := e2fsprogs util-linux mount
# A range and the tests start hundreds of processes; each would compile the whole program anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: practice run test lab lab-again lab-long lab-shell lint format bench fast lock man screenshots debs run-debs clean

practice: $(VENV)/.made run-debs ## a practice range of real iSCSI disks, and the dashboard on it
	$(BIN)/mooring practice

run: $(VENV)/.made ## the dashboard on this machine's own sessions
	$(BIN)/mooring

test: $(VENV)/.made debs ## every test; root for those with real block devices
	$(BIN)/pytest -q -n 3 --dist worksteal

lab: $(VENV)/.made ## scenarios in a virtual machine with the kernel's own iSCSI and multipath
	@.ci/debs $(LAB_DEBS)
	$(BIN)/python -m tests.lab build
	$(BIN)/pytest -q -n 2 --dist loadgroup --timeout 1500 --durations 25 -m "not long" tests/lab

lab-again: $(VENV)/.made ## what failed in `make lab`, without the other scenarios and in a fresh boot
	$(BIN)/pytest -q -n 2 --dist loadgroup --timeout 1500 --last-failed --last-failed-no-failures none -m "not long" tests/lab

lab-long: $(VENV)/.made ## hundreds of killed and raced removals in the same machine; about two hours
	@.ci/debs $(LAB_DEBS)
	$(BIN)/pytest -q -n 0 --timeout 3000 -m long tests/lab
	$(BIN)/python -m tests.lab long
	$(BIN)/python -m tests.lab figures

lab-shell: $(VENV)/.made ## the same machine, with a shell in it
	@.ci/debs $(LAB_DEBS)
	$(BIN)/python -m tests.lab shell

lint: $(VENV)/.made ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.made
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.made debs ## speed and memory, as the tables in the README
	@.ci/debs $(BENCH_DEBS)
	$(BIN)/python -m tests.bench

fast: $(VENV)/.made ## a wheel in dist/ with the engine's hot path compiled (needs cc), and the same unpacked in build/fast
	@.ci/debs gcc libc6-dev
	rm -rf dist build
	mkdir -p build/source
	cp -r initiator safety tui pyproject.toml README.md LICENSE build/source
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/pip wheel -q --no-deps --wheel-dir dist build/source
	$(BIN)/pip install -q --no-deps --target build/fast dist/*.whl

man: $(VENV)/.made ## docs/mooring.1, from the command line's own help
	$(BIN)/python -m docs.manual

screenshots: $(VENV)/.made debs ## the README's pictures, from the real dashboard on a real practice range
	$(BIN)/python -m docs.screenshots

lock: $(VENV)/.made
	$(BIN)/pip install -q pip-tools
	$(BIN)/pip-compile -q --extra test --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --no-header --annotation-style line -o requirements.lock pyproject.toml
	sed -i '1i # Exact versions for development and CI. Made by: make lock' requirements.lock

$(VENV)/.made: pyproject.toml requirements.lock
	@$(PYTHON) -m venv $(VENV) || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
		apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install -q -r requirements.lock
	$(BIN)/python -m pip install -q --no-deps -e .
	@$(BIN)/python -m pip install -q --only-binary :all: -e '.[fuzz]' || echo "no atheris for this machine: fuzzing skips" >&2
	touch $@

debs:
	@.ci/debs $(DEBS)

run-debs:
	@.ci/debs $(RUN_DEBS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
