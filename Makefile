# Linkspan. On a fresh Debian machine with Rust (rustup) and Go, as root:
#
#   make lab      builds Linkspan, joins two sites made of network namespaces, and proves it with real traffic
#   make test     runs all tests
#   make cluster  starts two Kubernetes clusters made of network namespaces, to be used with kubectl
#
# Both first run `setup`, which installs what is missing, says what it does, and is quick when nothing is.

SHELL := /bin/bash
CARGO ?= cargo
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
SETUP := tests/setup.sh

# What tests/testbed needs to make Kubernetes clusters.
CLUSTER_STEPS := cluster-packages kubernetes flannel coredns

# What tests/packaging renders and checks with.
PACKAGING_STEPS := kubernetes helm krew promtool cargo-cyclonedx systemd-analyze

# What tests/ui looks at the page with.
UI_STEPS := chromium

# More arguments for `linkspan lab`, for example: make lab ARGS="--sites 3"
ARGS ?=
# The commit of the earlier build in `make skew`.
PREVIOUS ?=
# Seconds for which each fuzz target runs in `make fuzz`.
TIME ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup lab cluster cluster-down build test faults documented skew released images reproducible lint fmt clippy doc deny bench bench-quick soak bench-control bench-dns bench-micro fuzz

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 20

setup: ## Install what tests and lab need: Debian packages, WireGuard peers, cargo-deny
	@$(SETUP) root packages wireguard-go boringtun-cli cargo-deny

build: ## Build the release binary, target/release/linkspan
	$(CARGO) build --release --locked

lab: ## Join two sites on this machine and prove it, then two with equal CIDRs (needs root; ARGS="--sites 3 --nodes 2")
	@$(SETUP) root packages
	$(CARGO) build --release --locked
	$(TARGET)/release/linkspan lab $(ARGS)
	$(if $(ARGS),,$(TARGET)/release/linkspan lab --overlap)

cluster: ## Start two Kubernetes clusters on this machine, and say how to use them (needs root; ARGS=--overlap)
	@$(SETUP) root packages $(CLUSTER_STEPS)
	$(CARGO) build --locked --package linkspan-testbed
	$(TARGET)/debug/testbed up $(ARGS)

cluster-down: ## Remove every trace of them
	@[[ -x $(TARGET)/debug/testbed ]] || $(CARGO) build --locked --package linkspan-testbed
	$(TARGET)/debug/testbed down

test: ## Run all tests (needs root: they build network namespaces)
	@$(SETUP) root packages
	@# Both use one core for much of their time, when nothing has been built before.
	@set -m; $(SETUP) wireguard-go boringtun-cli $(CLUSTER_STEPS) $(PACKAGING_STEPS) $(UI_STEPS) & setup=$$!; set +m; \
	  trap 'kill -- -$$setup' INT TERM; \
	  $(CARGO) test --workspace --locked --no-run; built=$$?; wait $$setup && exit $$built
	CARGO=$(CARGO) tests/run.sh

faults: ## Break two joined clusters in twenty ways, and ask diagnose and why what is wrong (needs root; about 8 min)
	@$(SETUP) root packages $(CLUSTER_STEPS)
	CARGO=$(CARGO) tests/run.sh faults --ignored --nocapture

documented: ## Run the commands of README and docs that need whole clusters (needs root; about 10 min)
	@$(SETUP) root packages $(CLUSTER_STEPS)
	CARGO=$(CARGO) tests/run.sh documentation --ignored --nocapture

skew: ## Join a cluster of the build PREVIOUS (a commit) to one of this build, upgrade it, roll the other back (needs root)
	@[[ -n "$(PREVIOUS)" ]] || { echo 'make skew: name a commit: make skew PREVIOUS=v0.1.0' >&2; exit 1; }
	@$(SETUP) root packages $(CLUSTER_STEPS)
	mkdir -p target/previous && find target/previous -mindepth 1 -maxdepth 1 ! -name target -exec rm -rf {} +
	git archive $(PREVIOUS) | tar -x -C target/previous
	$(CARGO) build --locked --manifest-path target/previous/Cargo.toml --bin linkspan
	LINKSPAN_PREVIOUS=$(CURDIR)/target/previous CARGO=$(CARGO) tests/run.sh earlier --ignored --nocapture

released: ## Run the tests of whole clusters with the static program of the image in pods (needs root; a release build more)
	@$(SETUP) root packages $(CLUSTER_STEPS)
	CARGO=$(CARGO) deploy/image/build.sh $(CURDIR)/target/linkspan-static
	LINKSPAN_PROGRAM=$(CURDIR)/target/linkspan-static CARGO=$(CARGO) tests/run.sh _are_joined_by_

images: ## Pack target/linkspan-amd64.tar and -arm64.tar, and run what is in them (needs root; two release builds)
	@$(SETUP) root packages images
	@for arch in amd64 arm64; do export ARCH=$$arch; \
	  deploy/image/pack.sh target/linkspan-$$arch.tar && deploy/image/check.sh target/linkspan-$$arch.tar || exit 1; done

reproducible: ## Build the image of the last commit in two folders, and compare both byte by byte
	@$(SETUP) root packages
	CARGO=$(CARGO) deploy/image/reproduce.sh

lint: fmt clippy doc deny ## Run every check that is not a test

fmt: ## Check the formatting
	$(CARGO) fmt --all --check

clippy: ## Run the lints on all code
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the documentation, private items too
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

# Advisories come from a Git repository and change with the day: `make audit` asks for them, the gate does not.
deny: ## Check bans, licences and sources of all dependencies
	@$(SETUP) cargo-deny
	target/peers/cargo-deny check --allow unused-wrapper bans licenses sources

.PHONY: audit
audit: ## Check the dependencies for published advisories (fetches the RustSec database)
	@$(SETUP) cargo-deny
	target/peers/cargo-deny check advisories

bench: bench-micro bench-dns ## Measure everything; the last line is the tunnel's RESULT
	@$(SETUP) root packages wireguard-go tailscale-wireguard-go boringtun-cli
	$(CARGO) bench --locked --bench throughput

bench-quick: ## Measure the tunnel beside other WireGuards with short runs, one round
	@$(SETUP) root packages wireguard-go tailscale-wireguard-go boringtun-cli
	$(CARGO) bench --locked --bench throughput -- --quick

soak: ## Carry one full TCP stream for ten minutes, through rekeys: does the rate hold, and memory stay?
	@$(SETUP) root packages
	$(CARGO) bench --locked --bench throughput -- --soak 600

bench-micro: ## Measure single stages: cipher, packets, lookups, names, judging a fleet, and planning its services
	$(CARGO) bench --locked --bench stages
	$(CARGO) bench --locked --package linkspan-tunnel --bench packet
	$(CARGO) bench --locked --package linkspan-dns --bench answer
	$(CARGO) bench --locked --bench fleet
	$(CARGO) bench --locked --package linkspan-controller --bench services

bench-control: ## Measure the time from an export to its name in the other cluster
	@$(SETUP) root packages $(CLUSTER_STEPS)
	$(CARGO) bench --locked --bench control

bench-dns: ## Measure names beside CoreDNS
	@$(SETUP) root packages coredns
	benches/dns/run.sh

fuzz: ## Run each fuzz target for TIME seconds (nightly Rust; new inputs stay in tests/fuzz/target)
	@$(SETUP) cargo-fuzz
	tests/fuzz/run.sh $(TIME)
