# Tidemill's front door for people; CMake presets do the work. `make help` lists the targets.

JOBS ?= $(shell nproc)
PORT ?= 8080
FUZZ_SECONDS ?= 600
TRACES ?= ../shared/data/traces
TEXT ?= ../shared/data/eval/python-heldout.txt
MODEL ?= models/nano-coder.gguf
SHAPE ?= llama-3.2-1b
LAYERS ?= 80
export CTEST_OUTPUT_ON_FAILURE = 1

.DEFAULT_GOAL := help
.PHONY: help run build test lint format asan tsan fuzz peers schemas accuracy quantised replay noise avx2 floats mixtures streams chaos rollouts profiled hop soak overload bench large distill distilled clean

help: ## List the targets
	@grep -hE '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## /  \1\t/' | expand -t 12

run: build ## Install what is missing, build, and serve the embedded model on 127.0.0.1:8080
	@exec build/release/tidemill up --port $(PORT)

build: ## Build the program: build/release/tidemill
	@scripts/deps.sh build
	@scripts/build.sh release tidemill

test: ## Build and run every test
	@scripts/deps.sh test
	@scripts/build.sh release
	@scripts/test.sh release

lint: ## Check formatting and run clang-tidy
	@scripts/deps.sh lint
	@scripts/lint.sh

format: ## Format the sources in place
	@scripts/deps.sh lint
	@git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

asan: ## Run the suite under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/deps.sh test
	@scripts/build.sh asan
	@scripts/test.sh asan

tsan: ## Run the suite under ThreadSanitizer
	@scripts/deps.sh test
	@scripts/build.sh tsan
	@scripts/test.sh tsan

fuzz: ## Run every fuzz target for FUZZ_SECONDS (600) each
	@scripts/deps.sh fuzz
	@scripts/fuzz.sh $(FUZZ_SECONDS)

peers: build ## Compare tokens, embeddings, scores and speed with llama.cpp (npm's node-llama-cpp) in one run
	@scripts/deps.sh test
	@scripts/peers.sh

schemas: ## Check 10,000 texts of random JSON Schemas, and as many models' outputs, with ajv
	@scripts/deps.sh test
	@scripts/build.sh release tidemill sample_schema
	@scripts/schemas.sh

noise: build ## Measure Tidemill and llama.cpp beside busy processes that share their processors
	@scripts/deps.sh test
	@scripts/peers.sh noise

avx2: build ## Compare speed with llama.cpp on AVX2 alone
	@scripts/deps.sh test
	@scripts/peers.sh avx2

floats: build ## Compare speed with llama.cpp with weights of F16 and BF16
	@scripts/deps.sh test
	@scripts/peers.sh floats

mixtures: build ## Compare speed of mixtures of experts with llama.cpp
	@scripts/deps.sh test
	@scripts/peers.sh mixtures

streams: build ## Measure 16 streams through the HTTP server
	@scripts/deps.sh test
	@scripts/peers.sh streams

chaos: build ## Kill a random one of several servers every second under 1,000 streams through a gateway
	@scripts/deps.sh test
	@node tests/e2e/chaos_long.mjs

profiled: ## Build build/profiled/tidemill, its gateway compiled and placed by profiles of itself: up to a half faster
	@scripts/deps.sh profiled
	@scripts/profiled.sh

hop: ## Measure what the hop through the gateway costs, beside nginx
	@scripts/deps.sh hop
	@cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
	@scripts/build.sh release tidemill bench_proxy
	@scripts/hop.sh

soak: ## Look at a gateway's memory under modest load for SOAK_SECONDS (3,600)
	@scripts/deps.sh hop
	@cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
	@scripts/build.sh release tidemill bench_proxy
	@scripts/soak.sh

overload: ## Offer a gateway twice its capacity, and a tenant's flood, for OVERLOAD_SECONDS (600) each
	@scripts/deps.sh hop
	@cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
	@scripts/build.sh release tidemill bench_proxy
	@scripts/overload.sh

accuracy: ## Compare quantised predictions with F32's, Tidemill's and llama.cpp's, on Python in TEXT
	@scripts/deps.sh test
	@scripts/accuracy.sh $(TEXT)

quantised: ## Say what fewer bits save and cost MODEL on TEXT, and how much faster they make SHAPE
	@scripts/deps.sh test
	@scripts/build.sh release tidemill
	@node bench/quantised.mjs $(MODEL) $(TEXT)
	@node bench/quantised.mjs --latency $(SHAPE) $(TEXT)

large: ## Say how much memory calibrating and quantising a model of Llama 3.1 70B's shape takes, or of LAYERS of its 80
	@scripts/deps.sh test
	@scripts/build.sh release tidemill
	@node bench/quantise_large.mjs --layers $(LAYERS)

distill: ## Install libtorch, and build the program with what it trains with
	@scripts/deps.sh build
	@scripts/deps.sh distill
	@cmake --preset release >/dev/null
	@scripts/build.sh release tidemill

distilled: distill ## Distil a student of 23 % from MODEL on this machine's Python, and judge both on TEXT
	@scripts/distilled.sh $(MODEL) $(TEXT)

replay: ## Replay the recorded traces in TRACES on simulated backends: prefix hits and balance of routing
	@scripts/deps.sh build
	@cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
	@scripts/build.sh release bench_route
	@build/release/bench_route $(TRACES)

rollouts: ## Simulate 1,000 rollouts of each kind, and the choice of models on a known workload
	@scripts/deps.sh build
	@scripts/rollouts.sh

bench: build ## Measure the embedded model and this machine's ceilings
	@build/release/tidemill bench

clean: ## Remove what was built
	rm -rf build
