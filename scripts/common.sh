# Shared by the scripts here: sourced, never run. The working directory is the root of the repository.
# shellcheck shell=bash

say() { printf '\n== %s\n' "$*"; }

# need COMMAND PACKAGE...: installs the Debian packages unless the command is there already.
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null 2>&1 && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "$command is needed and not installed; on Debian: apt-get install $*" >&2
        return 1
    fi
    say "installing $*"
    if [ -z "${WEIR_APT_UPDATED:-}" ]; then
        apt-get -o DPkg::Lock::Timeout=300 update -qq
        export WEIR_APT_UPDATED=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" >/dev/null
}

# npm_install FROM TO: what FROM/package-lock.json pins, installed in TO; nothing to do when it is there.
npm_install() {
    local from=$1 to=$2
    if [ -d "$to/node_modules" ] && cmp -s "$from/package-lock.json" "$to/package-lock.json"; then
        return
    fi
    mkdir -p "$to"
    cp "$from/package.json" "$from/package-lock.json" "$to/"
    (cd "$to" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
}

# Sets WEIR_DJANGO_PYTHON to a Python that has what tests/django/requirements.txt pins.
django_python() {
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || need python3-venv python3-venv
    local venv=target/tools/django
    if ! cmp -s tests/django/requirements.txt "$venv/requirements.txt"; then
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/django/requirements.txt
        cp tests/django/requirements.txt "$venv/requirements.txt"
    fi
    WEIR_DJANGO_PYTHON=$(realpath -s "$venv/bin/python")
    export WEIR_DJANGO_PYTHON
}

# Sees to the library that plugins in Rust are built with, where rustup is there to bring it.
wasm_target() {
    local target=wasm32-unknown-unknown
    [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup target add "$target" && return
    echo "no library for $target: no plugin is built" >&2
    return 1
}

# Sets WEIR_BIN to a binary of the ci profile, built now unless the environment names one.
weir_binary() {
    if [ -z "${WEIR_BIN:-}" ]; then
        # All members in one go: the same features as the tests, so that nothing is built twice.
        cargo build --locked --profile ci --workspace --bins --tests
        WEIR_BIN=${CARGO_TARGET_DIR:-target}/ci/weir
    fi
    WEIR_BIN=$(realpath "$WEIR_BIN")
    export WEIR_BIN
}
