#!/bin/sh
# See to it that the tests have the programs that they start: `curl`, as the documentation
# shows it, `ip` for network namespaces, `strace` to see system calls.
#
# What cannot be had, the tests that need it skip, and say so.
set -eu
cd "$(dirname "$0")/.."

missing=
for tool in curl:curl ip:iproute2 strace:strace; do
    command -v "${tool%:*}" >/dev/null 2>&1 || missing="$missing ${tool#*:}"
done
# Each word is a package.
[ -z "$missing" ] || setup/apt-install.sh $missing || echo "the tests lack$missing" >&2
