#!/bin/sh
# Run each target of fuzz/ for ZRS_FUZZ_SECONDS; stop at the first finding, and keep it.
set -eu
cd "$(dirname "$0")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "make fuzz requires a nightly compiler: rustup toolchain install nightly" >&2
    exit 1
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "make fuzz requires cargo-fuzz: cargo install cargo-fuzz" >&2
    exit 1
fi
for target in $(cargo +nightly fuzz list); do
    mkdir -p "fuzz/corpus/$target"
    echo "fuzzing $target"
    cargo +nightly fuzz run "$target" "fuzz/corpus/$target" tests/data/packs -- \
        -max_total_time="${ZRS_FUZZ_SECONDS:-60}" -max_len=20000 -malloc_limit_mb=256 -verbosity=0
done
