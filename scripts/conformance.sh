#!/usr/bin/env bash
# Runs the public suite http-cache-tests against Weir: scripts/conformance.sh [options of tests/conformance/run.mjs]
# WEIR_BIN names the binary to test; without it one is built with the ci profile.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

need node nodejs
need npm npm
tools=target/tools/conformance
npm_install tests/conformance "$tools"

arguments=(--suite "$tools/node_modules/http-cache-tests" --report target/conformance.md)
case " $* " in
*" --proxy "*) ;;
*)
    weir_binary
    arguments+=(--weir "$WEIR_BIN")
    ;;
esac
exec node tests/conformance/run.mjs "${arguments[@]}" "$@"
