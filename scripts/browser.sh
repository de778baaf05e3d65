#!/usr/bin/env bash
# A real Django site behind Weir, used by headless Chromium, as it is and with its cookies in the vault: scripts/browser.sh [options of tests/browser/run.mjs]
# WEIR_BIN names the binary to test; without it one is built with the ci profile.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

need chromium chromium fonts-liberation
need node nodejs
need npm npm
tools=target/tools/browser
npm_install tests/browser "$tools"
django_python

arguments=(--tools "$(realpath "$tools")" --python "$WEIR_DJANGO_PYTHON" --chromium "$(command -v chromium)")
case " $* " in
*" --direct "*) ;;
*)
    weir_binary
    arguments+=(--weir "$WEIR_BIN")
    ;;
esac
node tests/browser/run.mjs "${arguments[@]}" "$@"
if [ $# = 0 ]; then node tests/browser/run.mjs "${arguments[@]}" --vault; fi
