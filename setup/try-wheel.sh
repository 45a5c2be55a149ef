#!/bin/sh
# Install a wheel, or an sdist, into an empty environment, and replicate a database with it.
#
#     try-wheel.sh WHEEL PYTHON
#
# A primary and a secondary run as commands in separate processes; in the end their files must
# be sound and equal, byte for byte.
set -eu
package=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python=$2
work=$(mktemp -d)
primary=
trap 'test -z "$primary" || kill "$primary"; rm -rf "$work"' EXIT
# Settings of the caller's environment must not affect this.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV 2>/dev/null || :
cd "$work"

"$python" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check "$package"
venv/bin/python - <<'PYTHON'
import transaction, ZODB
from zc.zrs.filestorage import FileStorage
db = ZODB.DB(FileStorage("primary.fs"))
for number in range(100):
    with db.transaction() as connection:
        connection.root()[number] = "x" * 1000
db.close()
PYTHON
venv/bin/zrs primary primary.fs --listen 127.0.0.1:0 >listening &
primary=$!
for _ in $(seq 600); do
    grep -q '^replication on' listening && break
    sleep 0.1
done
address=$(sed -n 's/^replication on //p' listening)
venv/bin/zrs bootstrap secondary.fs --from "$address"
kill "$primary"
wait "$primary"
primary=
cmp primary.fs secondary.fs
venv/bin/zrs --version
echo "try-wheel: $("$python" --version) replicates with $(basename "$package")"
