#!/usr/bin/env bash
# The faults of Redis, of the disk, of the process and of plugins at full length, and sessions that are ended, with a table of how long things took, which is held to limits: on a machine that does nothing else. About half an hour.
#
#   scripts/faults.sh             all of it
#   scripts/faults.sh FILTER      only the tests of faults whose name begins with FILTER
#   WEIR_BIN=…                    tests this binary instead of one built now
#   WEIR_FAULT_LIMITS=0           tells how long things took, and holds them to nothing
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

need cc build-essential
need redis-server redis-server
weir_binary
export WEIR_FAULT_SECONDS=${WEIR_FAULT_SECONDS:-10} WEIR_KILLS=${WEIR_KILLS:-50}
export WEIR_WRITE_SECONDS=${WEIR_WRITE_SECONDS:-600} WEIR_CHURN=${WEIR_CHURN:-800000}
export WEIR_SESSION_KILLS=${WEIR_SESSION_KILLS:-50} WEIR_FAULT_LIMITS=${WEIR_FAULT_LIMITS:-1} WEIR_RELOADS=${WEIR_RELOADS:-200}
# A request of a plugin that never ends is given up within its deadline and 20 ms, and the others' p99 stays under twice its value.
if [ "$WEIR_FAULT_LIMITS" = 1 ]; then export WEIR_FAULT_MS=${WEIR_FAULT_MS:-30} WEIR_FAULT_P99=${WEIR_FAULT_P99:-1}; fi
# `faults::` is in the path of `plugin_faults::` too.
filters=("faults::${1:-}")
if [ $# = 0 ]; then filters+=("plugins::plugins_are_reloaded"); fi
cargo test --locked --profile ci --workspace --test e2e -- --nocapture --test-threads 1 "${filters[@]}"
