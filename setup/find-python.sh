#!/bin/sh
# Print the path of a CPython with the first given VERSION that is installed and runs.
#
#     find-python.sh 3.14 3.13 ...
#
# A name on PATH proves nothing: version managers install names that only print an error. So
# every candidate is run: those on PATH, including `python3`, then pyenv's.
# Prints nothing and exits with 1 if none is found.
set -u

# Print the real path of PYTHON if it is a CPython (with a GIL) of VERSION.
real_path() {
    "$1" -c '
import platform, sys, sysconfig
if (
    platform.python_implementation() != "CPython"
    or sysconfig.get_config_var("Py_GIL_DISABLED")
    or "%d.%d" % sys.version_info[:2] != sys.argv[1]
):
    sys.exit(1)
print(sys.executable)
' "$2" </dev/null 2>/dev/null
}

for version in "$@"; do
    for candidate in "python$version" python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
        real_path "$candidate" "$version" && exit 0
    done
done
exit 1
