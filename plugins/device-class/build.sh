#!/usr/bin/env bash
# Builds device-class.wasm. `zig cc` comes from PyPI (pip install ziglang==0.17.1), and has what a C compiler needs for WebAssembly; ZIG names another one.
set -euo pipefail
cd "$(dirname "$0")"
zig=${ZIG:-python3 -m ziglang}
sdk=../../plugin-sdk/c
core=$(mktemp -d)
trap 'rm -rf "$core"' EXIT
# A stack of 64 KiB: the usual 16 MiB alone are more than Weir gives an instance.
# -mexec-model=reactor: a library. Nothing of WASI remains in what is linked, so the component imports nothing but Weir's interface.
$zig cc -target wasm32-wasi -mexec-model=reactor -O2 -Wall -Wextra -Wno-unused-parameter -g0 -Wl,--strip-debug -Wl,-z,stack-size=65536 -I "$sdk" \
    src/device_class.c "$sdk/cache_key.c" "$sdk/cache_key_component_type.o" -o "$core/device_class.wasm"
cargo run --quiet --manifest-path ../Cargo.toml -p tools -- encode "$core/device_class.wasm" device-class.wasm
