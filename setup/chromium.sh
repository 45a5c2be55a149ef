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

is_here || {
    setup/apt-install.sh chromium fonts-dejavu-core && is_here
} || {
    echo "no browser to test with: install Chromium (Debian: apt-get install chromium)" |
        tee .peers/chromium.unavailable >&2
}
