SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

# The tools' versions are pinned by modules of their own; the go command builds them once and keeps them in its cache.
CONTROLLER_GEN := go tool -modfile=hack/tools/generate/go.mod controller-gen
GOLANGCI_LINT := go tool -modfile=hack/tools/lint/go.mod golangci-lint
HELM := go tool -modfile=hack/tools/helm/go.mod helm

CHART := charts/ens-operator

# How many packages are tested at once: each may run a Postgres and an API server of its own.
TEST_PACKAGES ?= 2
# Bounds the tests of one package.
TEST_TIMEOUT ?= 25m
# Further flags, e.g. make test TEST_FLAGS='-run TestReconcile -v'.
TEST_FLAGS ?=
# What to test or lint, e.g. make test PACKAGES=./runtime/...
PACKAGES ?= ./...
# What make bench compares with, and further flags of it, e.g. BENCH_FLAGS='-users 1000 -stage 5s'.
BASELINE ?=
BENCH_FLAGS ?=
# Further flags of make e2e: -run, -keep.
E2E_FLAGS ?=
# How long each fuzz target runs.
FUZZTIME ?= 5s

# make demo KEEP=1 leaves the demo running to play with.
export KEEP
export FUZZTIME
export SAVE

##@ Develop

.PHONY: help
help: ## Show this help.
	@awk 'BEGIN { FS = ":.*## "; print "Usage: make <target>" } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the programs into bin/.
	CGO_ENABLED=0 go build -trimpath -o bin/ens-operator ./cmd/operator
	CGO_ENABLED=0 go build -trimpath -o bin/ens-runtime ./cmd/runtime

.PHONY: generate
generate: ## Generate deepcopy functions, apply configurations, CRDs and the operator's role, and copy the latter two to the chart.
	rm -rf api/v1alpha1/applyconfiguration config/crd/bases $(CHART)/files/crds # what a removed type would leave behind
	$(CONTROLLER_GEN) object:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(CONTROLLER_GEN) applyconfiguration:headerFile=hack/boilerplate.go.txt paths=./api/...
	$(CONTROLLER_GEN) crd paths=./api/... output:crd:artifacts:config=config/crd/bases
	$(CONTROLLER_GEN) rbac:roleName=ens-operator paths=./controllers/... output:rbac:artifacts:config=config/rbac
	mkdir -p $(CHART)/files/crds
	cp config/crd/bases/*.yaml $(CHART)/files/crds/
	cp config/rbac/role.yaml $(CHART)/files/
	cp $(CHART)/files/dashboard_*.json config/prometheus/
	{ printf '%s\n' '# Made of the chart'"'"'s files/alerts.yaml by make generate.' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' \
	  'metadata:' '  name: ens-operator' 'spec:'; sed '/^#/d; s/^/  /' $(CHART)/files/alerts.yaml; } > config/prometheus/prometheus_rule.yaml

.PHONY: chart
chart: ## Package the Helm chart into bin/.
	$(HELM) package --destination bin $(CHART)

.PHONY: images
images: ## Make the container images into bin/, for linux/amd64 and linux/arm64, as OCI archives with their bills of materials.
	go run ./hack/images -out bin

.PHONY: demo
demo: ## Show the whole story on this machine: mail arrives, the phones show it. KEEP=1 leaves it running.
	go run ./hack/demo

.PHONY: e2e
e2e: ## Tell stories on a real cluster: KUBECONFIG's, or as root one of processes of this machine (docs/e2e.md). E2E_FLAGS='-run scale' tells some.
	go run ./hack/e2e $(E2E_FLAGS)

.PHONY: bench-operator
bench-operator: ## Measure the operator with 1,000 tenants (20 minutes).
	go run ./hack/operatorbench

.PHONY: bench
bench: env ## Measure the runtime with 100,000 users, and compare with BASELINE, a file that BENCH_FLAGS='-json file' has written.
	go run ./hack/loadgen $(if $(BASELINE),-baseline $(BASELINE)) $(BENCH_FLAGS)

.PHONY: bench-overload
bench-overload: env ## Offer the runtime, held to a quarter of a core, three times what it can do, and see it recover. Needs root.
	go run ./hack/loadgen -only overload -users 30000 -stage 12s -quota 0.25 $(BENCH_FLAGS)

.PHONY: bench-isolation
bench-isolation: env ## Measure what users feel of a slow endpoint, a failing provider and a noisy user that are not theirs.
	go run ./hack/loadgen -only isolation -users 20000 -stage 8s $(BENCH_FLAGS)

.PHONY: bench-replicas
bench-replicas: env ## Measure two replicas of one tenant beside one.
	go run ./hack/loadgen -only replicas -users 20000 $(BENCH_FLAGS)

.PHONY: bench-variants
bench-variants: env ## Measure a mail by OAuth, NTLM, a gateway, FCM and SNS beside Basic and APNs (three minutes).
	go run ./hack/loadgen -set variants -users 80000 -stage 8s $(BENCH_FLAGS)

.PHONY: bench-storm
bench-storm: env ## Measure 10,000 phones that register at once, lost subscriptions and changed passwords (some ten minutes).
	go run ./hack/loadgen -set storm -users 10000 $(BENCH_FLAGS)

.PHONY: bench-large
bench-large: env ## Measure the runtime with 1,000,000 users (some ten minutes, 10 GB of disk).
	go run ./hack/loadgen -set large -users 1000000 $(BENCH_FLAGS)

.PHONY: bench-aging
bench-aging: env ## Post a day's heartbeats of 100,000 users, and see whether tables grow (some five minutes).
	go run ./hack/loadgen -set aging -users 100000 $(BENCH_FLAGS)

##@ Check

.PHONY: env
env: ## Get what tests and the demo run against: Postgres, PgBouncer, kube-apiserver, etcd, openssl, helm.
	go run ./hack/testenv/prepare

.PHONY: test
test: env ## Run all tests.
	go test -p=$(TEST_PACKAGES) -timeout=$(TEST_TIMEOUT) $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-race
test-race: env ## Run all tests with the race detector.
	go test -race -p=$(TEST_PACKAGES) -timeout=$(TEST_TIMEOUT) $(TEST_FLAGS) $(PACKAGES)

.PHONY: test-alerts
test-alerts: ## Show with Prometheus' own engine which samples make the chart's alerts fire. Builds it first, some minutes once.
	cd hack/tools/rules && go test -count=1 ./... # it reads files of another module, which the cache does not see

.PHONY: bench-hot
bench-hot: env ## See that the hot paths allocate no more than the baseline says, in a minute. SAVE=1 replaces the baseline.
	cd hack/tools/bench && go test ./...
	hack/bench-hot.sh

.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME, 5s if not set.
	hack/fuzz.sh $(PACKAGES)

.PHONY: lint
lint: ## Check the code against .golangci.yml.
	$(GOLANGCI_LINT) run $(PACKAGES)

.PHONY: clean
clean: ## Remove what was built here. The caches outside the checkout stay.
	rm -rf bin
