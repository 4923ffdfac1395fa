# SPDX-License-Identifier: Apache-2.0
#
# The front door: `make` builds, `make run` shows it working, `make check` tests it. `make help` lists all.
#
# Meson builds; this file only strings together the scripts in tools/, so that one command works on a
# machine that has nothing but make. Everything that is made goes under build/. Recipes use the shell's
# $PWD, not make's $(CURDIR), and quote it: the path of the tree may hold any character.

SHELL = /bin/sh
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL = all
.PHONY: all deps run check check-long check-vm check-gpu fuzz install clean help

all: deps
	@sh tools/build --install build/obj --prefix="$$PWD/build" --libdir=lib -Dtests=disabled

deps:
	@sh tools/install-deps build optional

# make exports the variables of its command line, so the recipe reads them from its environment.
run: all
	@[ "$${NODES:-1}" = 1 ] || sh tools/install-deps build optional cluster
	@set -- ; \
	[ -z "$$NODES" ]    || set -- "$$@" --nodes "$$NODES"; \
	[ -z "$$TRACE" ]    || set -- "$$@" --trace "$$TRACE"; \
	[ -z "$$BLOCK" ]    || set -- "$$@" --block "$$BLOCK"; \
	[ -z "$$CAPACITY" ] || set -- "$$@" --capacity "$$CAPACITY"; \
	[ -z "$$CLIENTS" ]  || set -- "$$@" --clients "$$CLIENTS"; \
	[ -z "$$POLICY" ]   || set -- "$$@" --policy "$$POLICY"; \
	[ -z "$$SSD" ]      || set -- "$$@" --ssd "$$SSD"; \
	[ -z "$$SSD_CAPACITY" ] || set -- "$$@" --ssd-capacity "$$SSD_CAPACITY"; \
	[ -z "$$DRAM" ]     || set -- "$$@" --dram "$$DRAM"; \
	[ -z "$$REQUESTS" ] || set -- "$$@" --requests "$$REQUESTS"; \
	[ -z "$$SPEED" ]    || set -- "$$@" --speed "$$SPEED"; \
	exec build/bin/yolk run "$$@"

check:
	@sh tools/install-deps build optional test
	@exec python3 tools/run-tests $(if $(ONLY),--only "$$ONLY")

check-long:
	@sh tools/install-deps build optional test
	@YOLK_LONG=1 exec python3 tools/run-tests $(if $(ONLY),--only "$$ONLY")

check-vm:
	@sh tools/install-deps build optional test vm
	@exec python3 tools/run-tests --only vm-all

check-gpu:
	@sh tools/install-deps build optional test
	@exec python3 tools/run-tests --only gpu

# One target for as long as you like: make fuzz TARGET=wire DURATION=600
fuzz:
	@sh tools/install-deps build optional test
	@exec python3 tools/run-fuzz --build --seconds "$${DURATION:-60}" $(if $(TARGET),"$$TARGET")

# A build directory of its own, because the prefix is compiled in.
install: deps
	@sh tools/build --install build/install --prefix="$${PREFIX:-/usr/local}" -Dtests=disabled
	@if [ -z "$$DESTDIR" ] && [ "$$(id -u)" = 0 ] && command -v ldconfig >/dev/null; then ldconfig; fi

clean:
	@rm -rf build

help:
	@sed -n 's/^#: \{0,1\}//p' Makefile

#: make                 install what is missing (asks apt; says what first) and build into build/
#: make run             start a node, replay a workload through it, print the figures
#:                      with what each is by default (yolk run --help says more):
#:                        TRACE=          a file in the Mooncake format; without it one is generated
#:                        BLOCK=256K      bytes of each block
#:                        CAPACITY=2000   blocks that fit in memory; fewer where memory is short
#:                        SSD_CAPACITY=12000  blocks that fit on SSD; 0 is none; fewer where the disk is full
#:                        SSD=/var/tmp    where the SSD tier's file is; $TMPDIR if that is set
#:                        CLIENTS=2       client processes
#:                        POLICY=lru      eviction policy
#:                        DRAM=           memory of the node; without it as much as CAPACITY needs
#:                        REQUESTS=       stop after so many; without it 2500 generated ones, or the whole trace
#:                        NODES=1         more: a cluster of so many nodes and an etcd (installs etcd-server);
#:                                        sizes are of each, as root each in a network namespace of its own
#:                        SPEED=0         on the trace's timestamps, so many times faster; 0 does not wait
#: make check           every test with short counts; ends in 'N passed, N failed, N skipped'
#:                        ONLY=unit,tsan  only these steps (tools/run-tests --list names them)
#: make check-long      the same with full counts (hours)
#: make check-vm        tests in QEMU guests, two at a time on two cores: RDMA, NVMe, slow memory (tests/vm);
#:                      installs QEMU
#: make check-gpu       tests that need a GPU: its memory in the transfer engine
#: make fuzz            fuzz with clang; TARGET=NAME for one, DURATION=60 seconds each
#: make install         build for and install into PREFIX=/usr/local (DESTDIR= for packagers)
#: make deps            only install what a build needs
#: make clean           remove build/
