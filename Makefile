# Every way to build, test and try Tanist. `make` alone lists them.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LABCTL  := $(GO) run ./test/lab/labctl

# Knobs, each named in the help of its target.
BENCH    ?= .
FUZZTIME ?= 20s
NODE     ?= a
PAIR     ?=
RUN      ?=
SEED     ?=
SOAK     ?=
DB       ?=
SEEDS    ?= $(if $(SEED),1,100000)
SETUP    ?= yes

# The race detector needs a C compiler; the simulator has one goroutine and
# nothing to race, and runs several times faster without.
RACE := $(shell command -v gcc >/dev/null 2>&1 && [ "$$($(GO) env CGO_ENABLED)" = 1 ] && echo -race)

# A run is a fresh run: results depend on installed parts that Go's cache does not see.
GOTEST    := $(GO) test -count=1 $(if $(RUN),-run '$(RUN)')
# internal/config has no goroutine either, and tries every value in every place.
PLAIN_PKGS := ./internal/config
UNIT_PKGS  = $(shell $(GO) list ./... | grep -v -e '/tanist/test/' -e '/internal/config$$')
HOST_PKGS  = $(shell $(GO) list ./test/... | grep -v '/tanist/test/sim')
PURE_PKGS := ./vrrp ./health ./hooks ./replication ./internal/failover ./internal/mono

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help build test sim lab lab-up lab-down lab-shell lab-status interop \
	lint fmt fuzz demo soak bench bench-pair bench-db package setup clean

help: ## this list
	@awk -F ' *## *' '/^[a-z-]+:.*##/ {sub(/:.*/, "", $$1); printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/tanist
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/tanist ./cmd/tanist

# The lab's hosts share one machine and its two bridges: one package at a time,
# after the rest. A failing part does not hide the results of the next.
test: setup build ## everything: vet, unit tests, fixed simulator seeds, two-host lab (RUN=regexp, SETUP=no)
	@rc=0; \
	echo 'go vet ./...'; $(GO) vet ./... || rc=1; \
	echo 'unit tests $(RACE)'; $(GOTEST) -timeout 20m $(RACE) $(UNIT_PKGS) || rc=1; \
	$(GOTEST) $(PLAIN_PKGS) || rc=1; \
	echo 'simulator, fixed seeds'; $(GOTEST) ./test/sim/... || rc=1; \
	echo 'two hosts'; $(GOTEST) -p 1 -timeout 30m $(HOST_PKGS) || rc=1; \
	exit $$rc

sim: ## random failovers until one breaks an invariant (SEEDS=how many, SEED=the first; SEED=n alone replays n)
	@$(GO) build -o bin/simctl ./test/sim/simctl
	$(if $(SEED),,bin/simctl -scenario plain -seeds 2000)
	$(if $(SEED),,bin/simctl -scenario boundaries)
	$(if $(SEED),,bin/simctl -scenario address -seeds 20000 -seed $$(od -An -N4 -tu4 /dev/urandom | tr -d ' '))
	$(if $(SEED),,bin/simctl -scenario foreign -seeds 5000 -seed $$(od -An -N4 -tu4 /dev/urandom | tr -d ' '))
	bin/simctl -scenario faults -seeds $(SEEDS) -seed $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))

lab: setup build ## only the tests on two systemd hosts (RUN=regexp)
	$(GOTEST) -p 1 -timeout 30m $(HOST_PKGS)

lab-up: setup ## boot the two hosts, a and b
	$(LABCTL) up

lab-down: ## switch them off
	$(LABCTL) down

lab-shell: ## a shell on a host (NODE=a or b)
	$(LABCTL) shell $(NODE)

lab-status: ## what runs
	$(LABCTL) status

interop: setup ## the daemon elects against a real keepalived, others decode what it sends (RUN=regexp)
	$(GOTEST) -v ./test/interop

# Linters are pinned in internal/tools and built once, in about two CPU minutes.
bin/golangci-lint: internal/tools/go.mod internal/tools/go.sum $(wildcard internal/tools/purity/*.go)
	$(GO) build -C internal/tools -o $(CURDIR)/bin/ tool
	@touch $@

lint: bin/golangci-lint ## import directions, purity, exhaustiveness, style; and that these rules fire
	@rc=0; \
	echo 'golangci-lint'; bin/golangci-lint run ./... || rc=1; \
	echo 'purity'; bin/purity $(PURE_PKGS) || rc=1; \
	echo 'the rules fire'; $(GO) test -C internal/tools -count=1 ./... || rc=1; \
	exit $$rc

fmt: bin/golangci-lint ## gofumpt, imports
	bin/golangci-lint fmt

fuzz: ## each fuzz target for a while (FUZZTIME=20s)
	@grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		for name in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' $$file); do \
			echo "$${file%/*} $$name"; \
			$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) $${file%/*} || exit 1; \
		done; \
	done

demo: setup build ## two hosts, a client that counts, a scripted failover
	$(GO) build -o bin/demo ./test/demo
	@exec bin/demo

soak: setup ## 200 switchovers and 50 power cuts under writers, 1 and 32 databases per host: hours (SOAK='-databases 4 -switchovers 20')
	$(GO) build -o bin/soak ./test/soak
	@bin/soak $(SOAK)

bench: ## every benchmark (BENCH=regexp)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench-pair: setup ## failover and cost beside keepalived, in namespaces (PAIR='-full', '-cost -instances 64'; docs/benchmarks.md)
	$(GO) build -o bin/bench ./test/bench
	@bin/bench $(PAIR)

bench-db: setup ## what clients of 1 and of 32 databases see, beside keepalived with a script (DB='-scenario kill -n 5'; docs/benchmarks.md)
	$(GO) build -o bin/benchdb ./test/benchdb
	@bin/benchdb $(DB)

package: ## deb and rpm: none yet, and it says so
	@echo 'package: there are no packages yet; make build writes bin/tanist, one static file' >&2; exit 1

setup: ## Debian packages that the tests and the demo use; starts none of their services
	@[ '$(SETUP)' = no ] || internal/tools/setup.sh

clean: ## what the targets above wrote; a running lab is for lab-down
	rm -rf bin coverage.* cover.out
	find . -name '*.test' -type f -not -path './.git/*' -delete
