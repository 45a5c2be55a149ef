#!/bin/sh
# Install a browser for the tests: Debian's `chromium`, with a font.
#
# It is installed with apt-get, as root or by sudo without a password. If that is not possible,
# .peers/chromium.unavailable has the reason, with which the tests skip.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .peers
rm -f .peers/chromium.unavailable

is_here() {
    command -v chromium >/dev/null 2>&1
}

is_here || {
    setup/apt-install.sh chromium fonts-dejavu-core && is_here
} || {
    echo "no browser for the tests: install Chromium (Debian: apt-get install chromium)" |
        tee .peers/chromium.unavailable >&2
}
