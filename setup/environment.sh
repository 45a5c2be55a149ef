#!/bin/sh
# Create the project's virtual environment, or print in one sentence what is missing.
#
#     environment.sh [VENV]        (.venv)
#
# PYTHON names the interpreter to use; the default is the newest of 3.14 to 3.10 that runs, or
# else a later one.
# As root, or with sudo without a password, it installs what Debian has in separate packages
# (venv, a C linker) with apt-get.
set -eu
cd "$(dirname "$0")/.."
venv=${1:-.venv}
tested='3.14 3.13 3.12 3.11 3.10'
later='3.15 3.16 3.17 3.18 3.19 3.20'
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

missing() {
    echo "zrs: $*" >&2
    exit 1
}

find_python() {
    if [ -z "${PYTHON:-}" ]; then
        python=$(setup/find-python.sh $tested $later) ||
            missing "Python 3.10 or later is needed and none was found:" \
                "install python3 (3.10 or later), or name one with PYTHON=/path/to/python."
        return
    fi
    version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' </dev/null 2>/dev/null) ||
        missing "PYTHON=$PYTHON does not run: let it name a Python 3.10 or later."
    case $version in
    2.* | 3.[0-9]) missing "PYTHON=$PYTHON is Python $version: install Python 3.10 or later." ;;
    esac
    python=$PYTHON
}

check_linker() {
    command -v cc >/dev/null 2>&1 || setup/apt-install.sh gcc libc6-dev ||
        missing "a C linker is needed and there is no cc: install gcc (Debian: apt-get install gcc libc6-dev)."
}

check_rust() {
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    how="install Rust $needed or later, for example from https://rustup.rs."
    command -v cargo >/dev/null 2>&1 || missing "cargo is needed and was not found: $how"
    found=$(rustc --version </dev/null 2>/dev/null | cut -d' ' -f2)
    [ -n "$found" ] || missing "cargo is here but rustc does not run: $how"
    lowest=$(printf '%s\n%s\n' "$needed" "${found%%-*}" | sort -V | head -n 1)
    [ "$lowest" = "$needed" ] || missing "Rust $found is too old: $how"
}

check_venv() {
    "$python" -c 'import ensurepip, venv' </dev/null >/dev/null 2>&1 && return
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    setup/apt-install.sh "$package" && "$python" -c 'import ensurepip' </dev/null >/dev/null 2>&1 ||
        missing "$python cannot make virtual environments: install $package (Debian: apt-get install $package)."
}

find_python
check_rust
check_linker
check_venv

# Print uv as pip's requirements have it, with the version and the hashes that uv.lock holds.
locked_uv() {
    awk '
        /^name = / { here = $3 == "\"uv\"" }
        here && /^version = / { gsub("\"", ""); printf "uv==%s", $3 }
        here && match($0, /sha256:[0-9a-f]+/) { printf " --hash=%s", substr($0, RSTART, RLENGTH) }
        END { print "" }
    ' uv.lock
}

echo "zrs: creating $venv with $("$python" --version)" >&2
"$python" -m venv --clear "$venv"
requirement=$(mktemp)
trap 'rm -f "$requirement"' EXIT
locked_uv >"$requirement"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes --only-binary :all: -r "$requirement"
UV_PROJECT_ENVIRONMENT=$venv "$venv/bin/uv" sync --quiet --locked --python "$venv/bin/python"
