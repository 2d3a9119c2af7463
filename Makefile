# SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
#
# The front door.  Meson and Ninja do the work; see `make help`.

BUILD   ?= build
CONFIG  ?=
RUN_DIR ?=
PREFIX  ?=
DESTDIR ?=
SUITES  ?=
STEPS   ?=
FUZZ_SECONDS ?= 600

# The system's own tools first (Debian's python3 and meson, not a version manager's), and sbin, where bpftool lives.
export PATH := /usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:$(PATH)

AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || command -v sudo || echo need_root)
# make -s
SILENT  := $(findstring s,$(filter-out --%,$(firstword -$(MAKEFLAGS))))
WEIR    := $(BUILD)/src/cli/weir

.PHONY: all help deps run test check-fast lint bench fuzz install clean need-root

all: $(BUILD)/build.ninja ## build (the default)
	@$(if $(SILENT),said=$$(ninja -C $(BUILD) 2>&1) || { echo "$$said"; exit 1; } >&2,ninja -C $(BUILD))

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  run:   CONFIG=FILE  RUN_DIR=DIR (/run/weir)     test:  SUITES="unit cli bpf netns vm fuzz"'
	@echo '  lint:  STEPS="format python shell man cppcheck sparse clang tidy sanitize traffic"'
	@echo '  fuzz:  FUZZ_SECONDS=N ($(FUZZ_SECONDS))               install:  PREFIX=DIR  DESTDIR=DIR'
	@echo '  all:   BUILD=DIR ($(BUILD))'

deps: ## install the Debian packages that are missing
	@tools/deps

run: need-root ## install what is missing, build, run weir on this host and show its traffic; Ctrl-C removes it all
	@tools/deps build run
	@$(MAKE) --no-print-directory all
	@$(AS_ROOT) $(WEIR) run --view $(if $(CONFIG),--config '$(CONFIG)') $(if $(RUN_DIR),--run-dir '$(RUN_DIR)')

test: need-root ## install what is missing, build, run all tests; ends with "N passed, N failed"
	@tools/deps build run test
	@$(MAKE) --no-print-directory all
	@$(AS_ROOT) tests/run --build $(BUILD) $(SUITES)

check-fast: all ## build and run the unit tests
	@tests/run --build $(BUILD) unit

lint: ## formatting, clang-tidy, cppcheck, sparse, a build with clang, sanitizers, manual pages
	@tools/deps build lint
	@$(MAKE) --no-print-directory all
	@tools/lint $(BUILD) $(STEPS)

bench: all need-root ## measure: cost per packet, cost of the agent
	@$(AS_ROOT) bench/run $(BUILD)

fuzz: all ## fuzz for FUZZ_SECONDS
	@tests/fuzz/run $(BUILD) $(FUZZ_SECONDS)

install: all ## install weir, libweir, manual pages, completion and the systemd unit
	@DESTDIR='$(DESTDIR)' meson install -C $(BUILD) --no-rebuild $(if $(SILENT),--quiet)

clean: ## remove what was built
	rm -rf $(BUILD) build-*

need-root:
	@[ '$(AS_ROOT)' != need_root ] || { echo 'make: this needs root, and there is no sudo here; become root first' >&2; exit 1; }

$(BUILD)/build.ninja:
	@command -v meson >/dev/null && command -v ninja >/dev/null || \
		{ echo "make: meson and ninja are missing; 'make deps' installs them" >&2; exit 1; }
	@mkdir -p $(BUILD)
	@meson setup $(if $(PREFIX),--prefix '$(PREFIX)') $(BUILD) >$(BUILD)/setup.log 2>&1 || \
		{ cat $(BUILD)/setup.log >&2; rm -rf $(BUILD); exit 1; }
