# `make help` says what there is. `make demo` and `make test` install what they need (Debian packages, as root) but Rust.
MAKEFLAGS += --no-print-directory
SHELL := /bin/bash

CARGO ?= cargo
CC ?= cc
PROMPT ?= Once upon a time
C_FLAGS := -std=c99 -O2 -g -Wall -Wextra -Wpedantic -Werror -Iinclude
ABI := $(shell sed -n 's/.*GOMLX_ABI_VERSION = \([0-9]*\).*/\1/p' src/ffi/version.rs)

.DEFAULT_GOAL := help
export PREFIX DESTDIR LIBDIR STRIP EXTRA_LIBS FEATURES # what scripts/install and scripts/dist are told
.PHONY: help demo install uninstall dist test test-c test-go test-php test-wails soak-go soak-php soak-frankenphp header reference asan valgrind fuzz lint bench bench-peers mlx test-mlx soak library examples test-swift soak-swift bench-swift

help: ## Says this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

# PROFILE=debug (tests: checks on) or release (everything a user runs). FEATURES: those of Cargo.toml.
PROFILE ?= release
OUT := target/$(PROFILE)
library: ## Builds target/release/libgomlx.so and libgomlx.a
	@scripts/need cc cargo
	@$(CARGO) build --lib $(if $(filter release,$(PROFILE)),--release) $(if $(FEATURES),--features $(FEATURES)) --quiet
	@ln -sf libgomlx.so $(OUT)/libgomlx.so.$(ABI)

examples: library ## Builds the C examples into target/release/examples-c
	@mkdir -p $(OUT)/examples-c
	@for source in examples/*.c; do \
	    $(CC) $(C_FLAGS) $$source -o $(OUT)/examples-c/$$(basename $$source .c) \
	        -L$(OUT) -lgomlx -lpthread -Wl,-rpath,'$$ORIGIN/..' || exit 1; \
	done

demo: examples ## Streams a story: make demo PROMPT="The little dog"
	@$(OUT)/examples-c/hello "$(PROMPT)"

install: ## Installs library, header, pkg-config, CMake package, bindings: make install PREFIX=/usr/local [DESTDIR=] [STRIP=1]
	@scripts/install

uninstall: ## Removes what make install with the same PREFIX put there
	@scripts/install uninstall

dist: ## A relocatable archive below target/dist, with licences and SHA-256 sums
	@scripts/dist

test: ## Runs every test and counts them
	@scripts/test

test-c: ## C and C++: harness, wrapper, header, docs/c.md, every example from an installed prefix
	@scripts/c-tests plain
	@scripts/cpp-tests
	@scripts/check-abi
	@scripts/doc-tests c
	@scripts/install-tests

test-go: ## Go binding: vet, race detector, both ways of linking, a stranger's program
	@scripts/go-tests
	@scripts/doc-tests go

test-php: ## PHP binding: PHPUnit, docs/php.md, preloading, leaks, the boundary's cost
	@scripts/php-tests

test-wails: ## examples/wails-chat, a window, used with a keyboard on a virtual screen
	@scripts/wails-tests

soak-go: library ## Go: resident memory over 20,000 answers
	@cd bindings/go && go test -tags soak -run TwentyThousand -count 1 -v -timeout 1h .

soak-php: library ## PHP: resident memory over 20,000 answers (about 3 minutes)
	@scripts/need php
	@php bindings/php/tests/soak.php

soak-frankenphp: ## FrankenPHP: examples/frankenphp under load for five minutes (the first time also builds PHP with threads)
	@scripts/frankenphp zts 300

test-swift: ## Swift binding: XCTest, the document's snippets, a stranger's package (the first time 2 minutes to get Swift)
	@scripts/swift-tests

soak-swift: library ## Swift: resident memory over 20,000 answers
	@cd bindings/swift && ../../scripts/swift env GOMLX_SOAK=20000 swift test \
	    --scratch-path $(CURDIR)/target/swift/build --filter SoakTests

bench-swift: library ## What pulling a token through Swift costs more than through C
	@cd bindings/swift && ../../scripts/swift swift run -c release --disable-index-store \
	    --scratch-path $(CURDIR)/target/swift/build Boundary $(CURDIR)/models/llama-tales-16m-4bit

mlx: ## The library with the mlx backend (Linux: MLX from PyPI; GOMLX_MLX=cuda-13 for NVIDIA), into target/mlx/lib
	@scripts/mlx/library

test-mlx: ## The mlx backend: conformance, goldens, engine (cached in target/mlx)
	@scripts/mlx/test

header: ## Writes include/gomlx.h and PHP's header from src/ffi
	@GOMLX_BLESS=1 $(CARGO) test --quiet --test header

reference: ## The header's comments as a page: target/reference.md
	@scripts/need python3
	@mkdir -p target && scripts/reference >target/reference.md && echo target/reference.md

asan: ## C tests under AddressSanitizer and LeakSanitizer
	@scripts/c-tests asan

valgrind: ## C tests under valgrind
	@scripts/c-tests valgrind

SECONDS ?= 1200
soak: ## 64 threads do whatever callers do, for 20 minutes: make soak SECONDS=60 SEED=7
	@scripts/soak $(SECONDS) $(SEED)

.PHONY: tsan models
tsan: ## Races: the scheduler under thousands of interleavings that shuttle chooses
	@GOMLX_MODEL_TRIES=$(or $(TRIES),4000) $(CARGO) test --features shuttle --lib scheduler::models
models: tsan

fuzz: ## Fuzz targets, a minute each (needs a nightly compiler)
	@scripts/fuzz

bench: ## Measures: a table, JSON and a chart in bench/out (about 6 minutes): make bench BENCH="--quick"
	@scripts/need cc cargo
	@python3 bench/run.py $(BENCH)

bench-peers: ## The same beside llama.cpp and mlx-lm, by turns (about 25 minutes; the first time 10 more to build them)
	@scripts/need cc g++ cargo
	@python3 bench/run.py --peers $(BENCH)

lint: ## Formatting, clippy and documentation, warnings are errors
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet
