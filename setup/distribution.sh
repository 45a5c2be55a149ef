#!/bin/sh
# Build and check the published files in a directory: the wheel for Linux and the sdist.
#
#     distribution.sh BIN DIRECTORY
#
# BIN is the bin directory of the project's environment. zig links against the oldest glibc that
# Rust supports (2.17); auditwheel checks what the wheel actually requires. Then every Python on
# this machine installs the wheel into an empty environment and replicates with it, and one
# builds the sdist, with cargo and packages from the network.
set -eu
cd "$(dirname "$0")/.."
bin=$(cd "$1" && pwd)
out=$2
machine=$(uname -m)
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT

"$bin/python" -m venv "$tools"
UV_PROJECT_ENVIRONMENT=$tools "$bin/uv" sync --quiet --locked --only-group dist --python "$tools/bin/python"
rm -rf "$out"
# Published files must not contain paths of this machine.
RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$PWD=/zrs"
export RUSTFLAGS
PATH=$tools/bin:$PATH "$bin/maturin" build --quiet --release --locked --zig \
    --target "$machine-unknown-linux-gnu" --compatibility manylinux_2_17 \
    --interpreter "$bin/python" --out "$out"
unset RUSTFLAGS
"$bin/maturin" sdist --out "$out"
"$tools/bin/twine" check --strict "$out"/*
PATH=$tools/bin:$PATH "$tools/bin/auditwheel" show "$out"/*.whl >"$tools/audit"
grep -q "\"manylinux_2_17_$machine\"" "$tools/audit" || {
    cat "$tools/audit" >&2
    exit 1
}

unzip=$tools/unpacked
"$bin/python" -m zipfile -e "$out"/*.whl "$unzip"
if grep -rqF -e "$HOME" -e "$PWD" "$unzip"; then
    echo "distribution: the wheel contains paths of this machine" >&2
    exit 1
fi

tried=' '
for python in $(
    for version in 3.14 3.13 3.12 3.11 3.10; do setup/find-python.sh $version || :; done
    ls /usr/bin/python3 2>/dev/null || :
    ls "$HOME"/.local/share/uv/python/cpython-3.1[0-9]*/bin/python3 2>/dev/null || :
); do
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    case $version in 3.[0-9]) continue ;; esac
    "$python" -c 'import ensurepip, venv' 2>/dev/null || {
        echo "distribution: $python ($version) has no venv: skipped" >&2
        continue
    }
    case $tried in *" $python "*) continue ;; esac
    tried="$tried$python "
    setup/try-wheel.sh "$out"/*.whl "$python"
done
setup/try-wheel.sh "$out"/*.tar.gz "$bin/python"
