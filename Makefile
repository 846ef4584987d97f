# Short names for the scripts; `tests/run` installs what it needs and is all that CI runs.

.PHONY: check test bench bench-page judges clients deny fuzz soak mutants

check:    # what every change must pass before anything else
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

test:     # everything that CI runs
	tests/run

bench:    # all figures, beside other relays, into docs/performance.md: 10 minutes; QUICK=1: 3, for a look
	benches/run

bench-page: # mouth to ear through the page in Chromium and Firefox, beside the sample's way, into docs/performance.md: 18 minutes
	cargo build --quiet --release
	npm ci --silent --no-audit --no-fund --prefix tests/browser
	TEST_DAEMON=$(CURDIR)/target/release/voicelived benches/page/run.mjs

judges:   # Autobahn, sslscan, testssl.sh in full, slowhttptest: about 4 minutes
	tests/run judges testssl

clients:  # six public clients talk with the simulator, each in its own environment: 1 GB, minutes at first
	tests/run all-clients

deny:     # licences, sources, doubles; builds cargo-deny once, for minutes
	tests/run deny

fuzz:     # every target for a minute
	fuzz/run 60

soak:     # calls by the thousand for five minutes, looking for leaks; SEED=N for others
	VOICELIVED_SOAK_SECONDS=300 VOICELIVED_SEED=$(or $(SEED),1) cargo test --test soak -- --nocapture

mutants:  # faults put in one by one, which a test must see (cargo-mutants 27): hours; SHARD=0/50 for a part
	cargo mutants --baseline=skip --timeout=180 --shard $(or $(SHARD),0/1)

include packaging/packages.mk
