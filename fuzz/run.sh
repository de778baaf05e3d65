#!/bin/sh
# Builds the fuzz targets with the stable toolchain, replays their seeds, then fuzzes each.
#
#   fuzz/run.sh                           one second for each target, and always the same inputs: the check of a change
#   fuzz/run.sh SECONDS [TARGET...]       SECONDS for each target, never the same inputs: the search; 0 replays the seeds only
#   WEIR_FUZZ_SEED=7 fuzz/run.sh …        the inputs that follow from a number of your own
#
# Needs: cargo, a C++ compiler (Debian: g++) for libFuzzer itself. No clang, no nightly, no cargo-fuzz; with cargo-fuzz the same
# targets run as `cargo +nightly fuzz run TARGET`.
#
# Findings are left in fuzz/artifacts/TARGET, what was learned in fuzz/corpus/TARGET; seeds that should stay belong into fuzz/seeds/TARGET.
set -eu
cd "$(dirname "$0")"
# A change is not to fail for what it has not touched: without arguments chance begins at the same place each time (0: somewhere).
if [ $# -eq 0 ]; then seed=1; else seed=0; fi
seed=${WEIR_FUZZ_SEED:-$seed}
seconds=${1:-1}
[ $# -gt 0 ] && shift
host=$(rustc -vV | sed -n 's/^host: //p')

# The instrumentation that libFuzzer looks at. --target keeps it out of build scripts.
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1" \
    cargo build --release --quiet --locked --target "$host"

if [ $# -eq 0 ]; then
    set -- $(sed -n 's/^name = "\([a-z0-9_]*\)"$/\1/p' Cargo.toml)
fi
for target in "$@"; do
    mkdir -p "corpus/$target" "artifacts/$target"
    program="target/$host/release/$target"
    log="artifacts/$target.log"
    # -timeout: one input that takes twenty-five seconds is a finding too.
    if ! "$program" -runs=0 -timeout=25 "seeds/$target" "corpus/$target" >"$log" 2>&1; then
        cat "$log"
        echo "$target: a seed fails" >&2
        exit 1
    fi
    if [ "$seconds" -gt 0 ]; then
        if ! "$program" -max_total_time="$seconds" -seed="$seed" -timeout=25 -max_len=2048 -rss_limit_mb=1024 \
            -artifact_prefix="artifacts/$target/" "corpus/$target" "seeds/$target" >"$log" 2>&1; then
            tail -n 40 "$log"
            echo "$target: a finding, see fuzz/artifacts/$target" >&2
            exit 1
        fi
    fi
    echo "$target: $(ls "seeds/$target" | wc -l) seeds, $(ls "corpus/$target" | wc -l) learned, $(grep -E '^Done|DONE' "$log" | tail -n 1)"
done
