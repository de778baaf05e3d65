#!/usr/bin/env bash
# Builds section-tags-python.wasm (18 MB, not committed). Needs python3; installs componentize-py below this directory.
set -euo pipefail
cd "$(dirname "$0")"
[ -d .venv ] || { python3 -m venv .venv && .venv/bin/pip install --quiet -r requirements.txt; }
# -s: without WASI, a component imports nothing but Weir's interface.
.venv/bin/componentize-py -d ../../plugin-sdk/wit -w storing componentize -s app -o section-tags-python.wasm
