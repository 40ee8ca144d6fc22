# `make demo` runs the main job in an environment of its own, .venv-demo. Everything else uses .venv: `make test` runs the
# checks, `make slow` the long forms of some of them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Versions and hashes of all packages but torch and triton. Empty: the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
# Where `make demo` takes PyTorch from: its builds for CPUs. Empty: pip's own index.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Two processes, each with whole files, so that fixtures of a module are made once, in the order of tests/conftest.py.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Packages whose tests start no service, training or compiler.
UNIT := bundle bundle_page config data errors evaluation experiment memory model online/log online/state ranking scoring storage system
# Folders of C and C++.
NATIVE := bench clients examples kernels libmtaw tests

.PHONY: setup constraints demo test fast slow ray ray-smoke clients http-clients wasm siege lint types format prose web docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml $(CONSTRAINTS) CMakeLists.txt $(wildcard kernels/native/*.[ch]pp kernels/native/*/*.[ch]pp libmtaw/CMakeLists.txt libmtaw/*/*.[ch]*)
	$(PYTHON) -m venv $(VENV)
	@echo "packages first, then the native module: the module takes a minute on 2 cores of its own"
ifneq ($(CONSTRAINTS),)
	@$(PYTHON) .ci/progress.py $(BIN)/pip install --require-hashes --no-deps --requirement $(CONSTRAINTS)
	@$(PYTHON) .ci/progress.py $(BIN)/pip install --no-build-isolation --editable '.[dev]'
else
	@$(PYTHON) .ci/progress.py $(BIN)/pip install --editable '.[dev]'
endif
	touch $@

constraints: setup  ## resolve the newest versions into constraints.txt; run the tests before committing it
	$(BIN)/python .ci/constraints.py

demo:  ## click log -> data set -> trained bundle -> quality -> recommendations; 3 minutes next to its downloads
	@$(PYTHON) .ci/demo.py --constraints "$(CONSTRAINTS)" --torch-index "$(TORCH_INDEX)"

test: setup lint web  ## what CI runs: lint, types, layers, all tests but the long ones: 12 minutes on 2 cores
	$(BIN)/python -m pytest $(PARALLEL)

fast: setup  ## unit tests, in a minute on 2 cores, while you edit
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not ray and not long" -x -q $(addprefix tests/,$(UNIT))

slow: setup  ## the long forms, by hand (docs/hardening.md): sanitizers, fuzzers, soak, hostile clients
	$(BIN)/python -m tests.fuzz.engine --seconds 120
	$(BIN)/python -m tests.fuzz.engine --target memory --seconds 120
	$(BIN)/python -m tests.fuzz.bundles --cases 20000
	$(BIN)/python -m tests.libmtaw.fuzz --cases 20000
	$(BIN)/python -m tests.soak --calls 2000000 --seconds 1200
	$(BIN)/python -m tests.soak --memory --calls 400000 --seconds 1200
	$(BIN)/python -m tests.soak --learn --seconds 3600 --rate 2000
	$(BIN)/python -m tests.online.readers --logs 100000
	$(BIN)/python -m tests.simulation --histories 20000
	$(BIN)/python -m tests.simulation --every-call
	$(BIN)/python -m tests.service.hostile --bodies 10000
	$(BIN)/python -m tests.export.real_sets
	TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/kernels/on_triton
	$(BIN)/python -m mtaw_fast.kernels.compile_check --all
	$(BIN)/python -m pytest tests/integrations/test_ray_serve.py -m ray -k node_that_dies
	$(BIN)/python -m tests.training.group.kills --runs 10
	$(BIN)/python -m tests.refreshing.kills --runs 200
	$(BIN)/python -m tests.refreshing.full_disk --runs 200
	$(BIN)/python -m pytest -m long
	$(BIN)/python .ci/check_wheel.py
	$(BIN)/python -m tests.gpu_extra
	$(BIN)/python -m tests.docs.fresh

ray: setup  ## batch work, replicas and shards on a local Ray with workers of its own, killed ones included (docs/beyond-one-machine.md)
	$(BIN)/python -m pytest tests/integrations -m "ray or not ray" --ignore tests/integrations/test_smoke.py -k "not node_that_dies"

ray-smoke: setup  ## the same once and small: a minute or two, and not of `make test` (docs/beyond-one-machine.md)
	$(BIN)/python -m pytest tests/integrations/test_smoke.py -m ray

http-clients: setup  ## generate and build the HTTP clients, and compare their answers with Python's
	$(PYTHON) -m venv build/clients
	build/clients/bin/pip install --quiet openapi-python-client==0.29.1 ruff==0.17.6
	npm --prefix clients/http/typescript ci --silent
	PATH="$(CURDIR)/build/clients/bin:$$PATH" $(BIN)/python -m clients.http.generate
	npm --prefix clients/http/typescript run --silent build
	build/clients/bin/pip install --quiet --force-reinstall --no-deps clients/http/python
	MTAW_CLIENTS=build/clients $(BIN)/python -m pytest tests/clients/test_http_clients.py

wasm: setup  ## libmtaw as WebAssembly (Debian's emscripten), compared with Python, and the page in Chromium
	emcmake cmake -B build/wasm -DCMAKE_BUILD_TYPE=Release
	cmake --build build/wasm --parallel
	$(BIN)/python -m pytest tests/clients/test_wasm.py tests/examples/test_page.py

siege: setup  ## half an hour of hostile clients, reloads and kills next to honest ones (docs/hardening.md)
	$(BIN)/python -m tests.service.siege

clients: setup web  ## every client against the package on 100,000 sessions; HTTP and WebAssembly where their tools are
	if command -v npm >/dev/null; then $(MAKE) http-clients; fi
	if command -v emcmake >/dev/null; then $(MAKE) wasm; fi
	$(BIN)/python -m tests.clients.compare --sessions 100000

web:  ## what the Node.js example and client need, where Node.js is there; without it their tests skip
	-if command -v npm >/dev/null; then $(MAKE) examples/node_modules/.package-lock.json clients/node/node_modules/.package-lock.json; fi

examples/node_modules/.package-lock.json: examples/package-lock.json
	npm ci --prefix examples --no-audit --no-fund --ignore-scripts

clients/node/node_modules/.package-lock.json: clients/node/package-lock.json
	npm ci --prefix clients/node --no-audit --no-fund --ignore-scripts

docs: setup  ## the site, into build/site; it reads without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint: setup  ## format, layers, prose; types, the slowest, next to them; each prints when it is done
	$(MAKE) --jobs 2 --output-sync=target types format

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find $(NATIVE) \( -name '*.[ch]pp' -o -name '*.[ch]' \) -not -path '*/node_modules/*' | xargs $(BIN)/clang-format --dry-run --Werror
	$(BIN)/lint-imports
	$(BIN)/python .ci/prose.py

prose: setup  ## spelling, phrases to avoid and invented words, in texts and in code
	$(BIN)/python .ci/prose.py

clean:
	rm -rf build dist runs $(VENV) .venv-demo
