#!/usr/bin/env bash
# Builds language-js.wasm (12 MB, not committed). Needs npm; installs componentize-js (490 MB) below this directory.
set -euo pipefail
cd "$(dirname "$0")"
[ -d node_modules ] || npm install --ignore-scripts --no-audit --no-fund --loglevel=error
# Without its optional features a component imports nothing but Weir's interface.
node_modules/.bin/componentize-js language-js.js --wit ../../plugin-sdk/wit --world-name cache-key --out language-js.wasm \
    --disable stdio random clocks http fetch-event
