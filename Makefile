# Everything that a person or CI does with this repository. `make` lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS   += --no-print-directory

GO       ?= go
ARGS     ?=
FUZZTIME ?= 30s
TOOLS    := $(CURDIR)/bin/tools
# Modules with a go.mod of their own, which ./... does not reach; internal/house lists them too. Those
# deeper down (test/cluster/kube, test/cluster/coredns) are a main.go each in front of what takes minutes
# to compile: make cluster builds them.
NESTED   := $(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod))

# Conditional parts appear with the directory that they are about; help follows them.
.PHONY: help
help: ## list these targets
	@awk '/^ifneq \(\$$\(wildcard /{f=$$0; gsub(/.*wildcard |\).*/, "", f); skip=system("test -e " f)} \
	  /^endif/{skip=0} \
	  !skip && match($$0, /^[a-z0-9-]+:.*## /){t=$$1; sub(/:$$/, "", t); sub(/.*## /, ""); printf "  %-16s %s\n", t, $$0}' $(MAKEFILE_LIST)

ifneq ($(wildcard cmd),)
.PHONY: build
build: ## build every program, static, into bin/
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags='-s -w' -o bin/ ./cmd/...
endif

ifneq ($(wildcard tools/images),)
.PHONY: images
images: ## container images as OCI archives in dist/images; ARGS='-platform linux/amd64', '-push -registry …'
	@$(GO) -C tools run ./images -source .. -out ../dist/images $(ARGS)
endif

ifneq ($(wildcard test/cluster),)
# Which of the clusters of this machine, 0 to 9.
INSTANCE ?= 0
BED      := $(CURDIR)/bin/test-bed -instance $(INSTANCE)

.PHONY: bed
bed:
	@[ "$$(uname)" = Linux ] || { echo "no cluster on this machine, which lacks:"; echo "  Linux: this is $$(uname)"; exit 1; }
	@mkdir -p bin
	@$(GO) -C test/cluster build -o $(CURDIR)/bin/test-bed ./bed

.PHONY: cluster
cluster: bed ## bring a real Kubernetes of two nodes up (root, Linux) and print what a shell needs; ARGS='image.tar …'
	@cd test/cluster && $(BED) up $(abspath $(ARGS))

.PHONY: cluster-down
cluster-down: bed ## end what make cluster brought up, or a crashed test left
	@$(BED) down
endif

ifneq ($(wildcard test/e2e),)
# Exit status 3 names what the machine lacks.
.PHONY: e2e
e2e: ## tests on a real Kubernetes, which they bring up themselves; where there can be none they say why and pass
	@[ "$$(uname)" = Linux ] || { echo "e2e: skipped: it needs Linux, and this is $$(uname)"; exit 0; }; \
	  mkdir -p bin; $(GO) -C test/cluster build -o $(CURDIR)/bin/test-bed ./bed; \
	  $(BED) check || { [ $$? -eq 3 ] && echo 'e2e: skipped' && exit 0; exit 1; }; \
	  (cd test/cluster && $(BED) build); \
	  $(GO) -C test/cluster test -count=1 -v -timeout 20m .; \
	  $(GO) -C test/e2e test -count=1 -v -timeout 20m $(ARGS) . -args -instance $(INSTANCE)

.PHONY: e2e-long
e2e-long: bed ## e2e with the tests that take minutes
	@$(BED) check; \
	  (cd test/cluster && $(BED) build); \
	  $(GO) -C test/e2e test -count=1 -v -timeout 120m $(ARGS) . -args -instance $(INSTANCE) -long
endif

ifneq ($(wildcard cmd/tulle-demo),)
.PHONY: demo
demo: ## a whole mesh on this machine, no root, no cluster; ARGS='--duration 30s -o json'
	@$(GO) run ./cmd/tulle-demo $(ARGS)
endif

# Allocation ceilings do not hold under the race detector, and the simulation runs its full set of
# seeds without it: hence the second run.
.PHONY: test
test: ## unit and in-process tests, with the race detector; under 10 minutes on 2 cores
	$(GO) test -race -short -timeout 10m ./...
	$(GO) test -short -timeout 10m $(wildcard ./test/sim/...) ./proxy/... ./destination/...
	@for m in $(NESTED); do tools/each-module "$$m" test -race -short -timeout 10m; done

.PHONY: test-long
test-long: ## what does not fit into test: every test without -short, and the negative runs
	$(GO) test -race -timeout 90m ./...
	@$(MAKE) negative

# Its figures are of the proxies alone, which are built without the race detector in test-long too.
ifneq ($(wildcard test/mesh),)
.PHONY: test-stopped
test-stopped: ## of test-long: 1 GiB past a stopped reader for each protocol, and 100 at once; writes docs/results
	TULLE_RESULTS=$(CURDIR)/docs/results $(GO) test -count=1 -timeout 30m -v -run 'StoppedReader' ./test/mesh
endif

.PHONY: lint
lint: tools ## gofmt, golangci-lint, vet for macOS, kubeconform and govulncheck, nested modules included
	@tools/gofmt-check
	$(TOOLS)/golangci-lint run --allow-parallel-runners ./...
	GOOS=darwin $(GO) vet ./...
	@for m in $(NESTED); do tools/each-module "$$m" vet; tools/each-module "$$m" golangci-lint; done
	@tools/conform/each-version
	@tools/vulncheck $(TOOLS)/govulncheck

.PHONY: generate
generate: tools ## all generated code: protobuf, deepcopy
	@PATH="$(TOOLS):$$PATH" tools/generate

.PHONY: generate-check
generate-check: tools ## fail when generated code is stale
	@PATH="$(TOOLS):$$PATH" tools/generate --check

.PHONY: fuzz
fuzz: ## run every fuzzer for FUZZTIME (30s)
	@tools/fuzz "$(FUZZTIME)"

ifneq ($(wildcard bench),)
.PHONY: bench
bench: ## compare with a direct connection and HAProxy; ARGS are the harness's
	$(GO) -C bench run . $(ARGS)
endif

ifneq ($(wildcard test/sim/planted),)
.PHONY: planted
planted: ## plant known bugs by overlay; the simulation must find each and print its seed
	$(GO) run ./test/sim/planted $(ARGS)
endif

ifneq ($(wildcard test/mesh/negative),)
.PHONY: negative
negative: ## take mTLS, EWMA and retries away, one at a time; what proves each must fail then
	@$(GO) run ./test/mesh/negative $(ARGS)
endif

# Debian packages and one Go module; what is missing is named. docs/attacks.md says what is held without them.
ifneq ($(wildcard test/mesh),)
.PHONY: judges
judges: ## other makers' judges against two proxies: slowhttptest, h2spec, h2load, curl, promtool; writes docs/results
	@missing=(); for p in slowhttptest:slowhttptest h2load:nghttp2-client nghttp:nghttp2-client curl:curl promtool:prometheus; do \
	  command -v "$${p%%:*}" >/dev/null || missing+=("$${p#*:}"); done; \
	  (($${#missing[@]} == 0)) || { echo "judges: missing; apt-get install --no-install-recommends $${missing[*]}"; exit 1; }; \
	  mkdir -p $(TOOLS); [ -x $(TOOLS)/h2spec ] || GOBIN=$(TOOLS) $(GO) install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible; \
	  PATH="$(TOOLS):$$PATH" TULLE_JUDGES=1 TULLE_RESULTS=$(CURDIR)/docs/results $(GO) test -count=1 -timeout 30m -v -run '^TestJudges$$' ./test/mesh
endif

.PHONY: tools
tools: ## build the linters and generators of tools/go.mod into bin/tools
	@mkdir -p $(TOOLS)
	@GOBIN=$(TOOLS) $(GO) -C tools install tool

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
