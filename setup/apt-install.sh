#!/bin/sh
# Install Debian packages, if that is possible without interaction.
#
#     apt-install.sh PACKAGE...
#
# Requires root, or sudo without a password. Prints what it does; exits with 1 and the output of
# apt-get if the packages are not installed afterwards.
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
# It usually fails because of old or missing package lists.
install "$@" || { apt update && install "$@"; } || {
    cat "$log" >&2
    exit 1
}
