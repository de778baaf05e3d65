#!/usr/bin/env bash
# The faults of Redis, of the disk and of the process at full length, and sessions that are ended, with a table of how long things took, which is held to limits: on a machine that does nothing else. About half an hour.
#
#   scripts/faults.sh             all of it
#   scripts/faults.sh FILTER      only the tests whose name contains FILTER
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
export WEIR_SESSION_KILLS=${WEIR_SESSION_KILLS:-50} WEIR_FAULT_LIMITS=${WEIR_FAULT_LIMITS:-1}
cargo test --locked --profile ci -p e2e --test e2e -- --nocapture --test-threads 1 "faults::${1:-}"
