#!/bin/sh
# Install packages of Debian's, if that is possible without asking anybody anything.
#
#     apt-install.sh PACKAGE...
#
# As root, or where sudo asks nothing. Says what it does; exits 1, with what apt-get said, if
# the packages are not there afterwards.
set -u

command -v apt-get >/dev/null 2>&1 || exit 1
as_root=
if [ "$(id -u)" != 0 ]; then
    sudo -n true >/dev/null 2>&1 || exit 1
    as_root='sudo -n'
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT

apt() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" </dev/null >>"$log" 2>&1
}

install() {
    apt -y install --no-install-recommends "$@"
}

echo "zrs: installing $* with apt-get" >&2
# Lists that are old, or not there at all, are the usual reason why it fails.
install "$@" || { apt update && install "$@"; } || {
    cat "$log" >&2
    exit 1
}
