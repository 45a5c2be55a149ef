#!/bin/sh
# Install ZooKeeper for the tests: Debian's package `zookeeper`, which does not start a server,
# and Java.
#
# They are installed with apt-get, as root or by sudo without a password. If that is not
# possible, .peers/zookeeper.unavailable has the reason, with which the tests skip.
set -eu
cd "$(dirname "$0")/.."
jars=/usr/share/java
mkdir -p .peers
rm -f .peers/zookeeper.unavailable

is_here() {
    [ -e "$jars/zookeeper.jar" ] && [ -e "$jars/slf4j-log4j12.jar" ] &&
        [ -e "$jars/log4j-1.2.jar" ] && java -version </dev/null >/dev/null 2>&1
}

is_here || {
    setup/apt-install.sh zookeeper default-jre-headless && is_here
} || {
    echo "no ZooKeeper for the tests: install Java and ZooKeeper" \
        "(Debian: apt-get install zookeeper default-jre-headless)" |
        tee .peers/zookeeper.unavailable >&2
}
