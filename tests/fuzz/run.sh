#!/usr/bin/env bash
# Builds every fuzz target with coverage counters, as cargo-fuzz does, and runs each for SECONDS (30), four at a time, of whatever processors there are.
# Needs stable Rust and a C++ compiler alone. What a run finds stays in corpus/ (new paths, where the next run goes on) and artifacts/ (crashes).
#
#   tests/fuzz/run.sh [SECONDS [TARGET...]]
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-30}
shift || true

# The flags of cargo-fuzz 0.13, without the address sanitizer: no code here is unsafe.
coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 --cfg fuzzing)
host=$(rustc --version --verbose | sed -n 's/^host: //p')
target=${CARGO_TARGET_DIR:-$PWD/target}
# Naming the target keeps the flags away from build scripts.
RUSTFLAGS="${coverage[*]}" cargo build --locked --release --bins --target "$host" --target-dir "$target"

targets=("$@")
if ((${#targets[@]} == 0)); then
    for file in fuzz_targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

run() { # NAME, and prints what it did once it has
    local name=$1 folders=("corpus/$1") log=artifacts/$1/log
    mkdir -p "corpus/$name" "artifacts/$name"
    [[ -d seeds/$name ]] && folders+=("seeds/$name")
    # A single input may take 10 s, 512 MB in all: more is a fault of ours.
    if "$binaries/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=512 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="artifacts/$name/" "${folders[@]}" 2>"$log"; then
        awk -v name="$name" -v seconds="$seconds" '/number_of_executed_units/ { runs = $2 } /new_units_added/ { new = $2 }
            END { print name ": clean for " seconds " s, " runs " inputs, " new " with new paths" }' "$log"
    else
        tail -n 40 "$log"
        echo "$name: failed"
        return 1
    fi
}

export -f run
export seconds binaries=$target/$host/release
printf '%s\n' "${targets[@]}" | xargs -n 1 -P 4 bash -euc 'run "$0"'
