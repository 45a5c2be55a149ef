#!/bin/sh
# Write requirements/*.txt from requirements/*.in: newest versions, with hashes.
#
#     lock.sh PYTHON
#
# zrs25.txt is not changed: no resolver supports Python 2.7 any more.
set -eu
cd "$(dirname "$0")/../requirements"
python=${1:?a Python with pip}
uv=$(mktemp -d)
trap 'rm -rf "$uv"' EXIT
"$python" -m pip install --quiet --disable-pip-version-check --target "$uv" uv

lock() {
    name=$1
    shift
    "$uv/bin/uv" pip compile --quiet --upgrade --generate-hashes --no-header "$@" \
        "$name.in" -o "$name.txt"
}

for name in test test-zodb5 dev bench dist; do
    lock "$name" --universal --python-version 3.10
done
lock docs --universal --python-version 3.11
lock zrs31 --no-deps --python-version 3.11
lock siblings-old --no-deps --python-version 3.10
lock siblings-new --no-deps --python-version 3.10
lock zlibstorage --no-deps --python-version 3.10
lock plone --no-deps --python-version 3.10
