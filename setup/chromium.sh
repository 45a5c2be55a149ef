#!/bin/sh
# See to it that the tests can open pages: Debian's `chromium`, with a font to write in.
#
# As root, or where sudo asks nothing, it is installed with apt-get. Where it cannot be had,
# the reason stands in .peers/chromium.unavailable, for the tests to skip with.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .peers
rm -f .peers/chromium.unavailable

is_here() {
    command -v chromium >/dev/null 2>&1
}

apt_install() {
    command -v apt-get >/dev/null 2>&1 || return 1
    as_root=
    if [ "$(id -u)" != 0 ]; then
        sudo -n true >/dev/null 2>&1 || return 1
        as_root='sudo -n'
    fi
    echo "zrs: installing $* with apt-get" >&2
    set -- $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends "$@"
    "$@" </dev/null >.peers/chromium.log 2>&1 || {
        $as_root apt-get -q update </dev/null >>.peers/chromium.log 2>&1 &&
            "$@" </dev/null >>.peers/chromium.log 2>&1
    } || {
        cat .peers/chromium.log >&2
        return 1
    }
}

is_here || {
    apt_install chromium fonts-dejavu-core && is_here
} || {
    echo "no browser to test with: install Chromium (Debian: apt-get install chromium)" |
        tee .peers/chromium.unavailable >&2
}
