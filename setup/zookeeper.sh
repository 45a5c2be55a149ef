#!/bin/sh
# See to it that the tests can start ZooKeeper servers: Debian's package `zookeeper`, which
# starts none itself, and a Java to run them.
#
# As root, or where sudo asks nothing, they are installed with apt-get. Where they cannot be
# had, the reason stands in .peers/zookeeper.unavailable, for the tests to skip with.
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
    echo "no ZooKeeper to test with: install Java and ZooKeeper" \
        "(Debian: apt-get install zookeeper default-jre-headless)" |
        tee .peers/zookeeper.unavailable >&2
}
