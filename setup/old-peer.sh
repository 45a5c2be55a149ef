#!/bin/sh
# Create an environment with an old zc.zrs, for tests over the network.
#
#     old-peer.sh zrs31       .peers/zrs31: zc.zrs 3.1.0, on Python 3.11
#     old-peer.sh zrs25       .peers/zrs25: zc.zrs 2.5.3, on Python 2.7 (or PYTHON27)
#     old-peer.sh dobbin03    .peers/dobbin03: dobbin 0.3, likewise
#
# Each is used as .peers/NAME/bin/python. If it cannot be created, .peers/NAME.unavailable has
# the reason, with which the tests skip; that is not a failure.
set -eu
cd "$(dirname "$0")/.."
name=${1:?zrs31, zrs25 or dobbin03}
peer=$PWD/.peers/$name
mkdir -p .peers
rm -rf "$peer" "$peer.unavailable"

unavailable() {
    rm -rf "$peer"
    echo "$*" | tee "$peer.unavailable" >&2
    exit 0
}

pip_install="pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps"

make_zrs31() {
    python=$(setup/find-python.sh 3.11) ||
        unavailable "zc.zrs 3.1.0 requires Python 3.11, which is not installed"
    "$python" -m venv "$peer"
    # pkg_resources, which its namespace packages require, is required at build time as well.
    "$peer/bin/python" -m $pip_install -r setup/peers/zrs31.txt ||
        unavailable "zc.zrs 3.1.0 could not be installed from the package index"
}

make_zrs25() {
    make_python27 "zc.zrs 2.5.3"
}

make_dobbin03() {
    make_python27 "dobbin 0.3"
}

make_python27() {
    python=${PYTHON27:-$(setup/find-python.sh 2.7)} ||
        unavailable "$1 requires Python 2.7, which is not installed"
    "$python" -m pip --version </dev/null >/dev/null 2>&1 ||
        unavailable "$1 requires pip, which is not installed for $python"
    mkdir -p "$peer/bin" "$peer/lib"
    "$python" -m $pip_install --target "$peer/lib" -r "setup/peers/$name.txt" 2>"$peer/pip.log" || {
        cat "$peer/pip.log" >&2
        unavailable "$1 could not be installed from the package index"
    }
    # --target omits the .pth files that declare these namespaces.
    mkdir -p "$peer/lib/zc"
    touch "$peer/lib/zc/__init__.py" "$peer/lib/zope/__init__.py"
    cat >"$peer/bin/python" <<EOF
#!/bin/sh
PYTHONPATH=$peer/lib exec $python "\$@"
EOF
    chmod +x "$peer/bin/python"
}

case $name in
zrs31 | zrs25)
    "make_$name"
    modules="zc.zrs.primary, zc.zrs.secondary"
    ;;
dobbin03)
    make_dobbin03
    modules=dobbin.database
    ;;
*)
    echo "old-peer.sh: $name is not one of zrs31, zrs25, dobbin03" >&2
    exit 2
    ;;
esac
"$peer/bin/python" -c "import $modules" ||
    unavailable "the package in .peers/$name was installed but cannot be imported"
