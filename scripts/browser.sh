#!/usr/bin/env bash
# A real Django site behind Weir, used by headless Chromium: scripts/browser.sh [options of tests/browser/run.mjs]
# WEIR_BIN names the binary to test; without it one is built with the ci profile.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/common.sh

need chromium chromium fonts-liberation
need node nodejs
need npm npm
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv python3-venv
tools=target/tools/browser
npm_install tests/browser "$tools"
venv=target/tools/django
if ! cmp -s tests/django/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/django/requirements.txt
    cp tests/django/requirements.txt "$venv/requirements.txt"
fi

arguments=(--tools "$(realpath "$tools")" --python "$(realpath -s "$venv/bin/python")" --chromium "$(command -v chromium)")
case " $* " in
*" --direct "*) ;;
*)
    weir_binary
    arguments+=(--weir "$WEIR_BIN")
    ;;
esac
exec node tests/browser/run.mjs "${arguments[@]}" "$@"
