#!/bin/sh
# Install programs that the tests start: `curl` for commands in the documentation, `ip` for
# network namespaces, `strace` for system calls.
#
# Tests that require a missing program skip with the reason.
set -eu
cd "$(dirname "$0")/.."

missing=
for tool in curl:curl ip:iproute2 strace:strace; do
    command -v "${tool%:*}" >/dev/null 2>&1 || missing="$missing ${tool#*:}"
done
# Split into words: each is a package.
[ -z "$missing" ] || setup/apt-install.sh $missing || echo "the tests lack$missing" >&2
