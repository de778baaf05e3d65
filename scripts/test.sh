#!/usr/bin/env bash
# Installs what the tests need and runs them all, the end-to-end and leak tests against the real binary included.
#
#   scripts/test.sh [FILTER]      only the tests whose name contains FILTER
#   WEIR_BIN=…                    tests this binary instead of one built now
#   WEIR_LEAK_REQUESTS=1000000    a longer leak test
#   PROPTEST_RNG_SEED=$RANDOM     other inputs for the property tests; without it the same each time, so that a change fails for what it changed
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh
export PROPTEST_RNG_SEED=${PROPTEST_RNG_SEED:-1}

need cc build-essential
need brotli brotli # the decoders that check what Weir compresses
need zstd zstd
need redis-server redis-server # the real thing: alone, with Sentinels, as a Cluster
django_python                  # a real application that has sessions of its own
need curl curl                 # what an author of plugins asks with
wasm_target || true            # without it, one test says that it builds no plugin
# Debian keeps the server where no PATH leads.
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || need initdb postgresql
weir_binary
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --locked --cargo-profile ci --workspace --no-fail-fast "$@"
else
    cargo test --locked --profile ci --workspace --lib --bins --tests --no-fail-fast -- "$@"
fi
# Examples in the documentation, which neither of the two runs.
if [ $# = 0 ]; then cargo test --locked --profile ci --workspace --doc --quiet; fi
