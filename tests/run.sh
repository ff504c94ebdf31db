#!/usr/bin/env bash
# Every check of this repository, in the order in which a fault is cheapest to find.
#
#   tests/run.sh                 all of them (some 25 minutes on two cores, from a clean clone)
#   tests/run.sh fmt clippy      only these
#   tests/run.sh fuzz 600        build the fuzz targets, and run each for 600 s rather than 30
#
# Needs Rust (rust-version in Cargo.toml) and Node.js 20; on Debian and Ubuntu `setup` installs the rest.
# A failed step doesn't stop the others. The last line counts what passed and failed: each test of a step that
# has tests, and 1 for each other step. What lives in real time is skipped where it fails twice while the machine had no time
# for it (tests/it/cluster/machine.rs): it is counted apart, and named, with the machine's figures. More than three skips fail the run.
set -euo pipefail
cd "$(dirname "$0")/.."

steps=(setup fmt clippy docs test pure fuzz browser)
export CARGO_INCREMENTAL=0 # built once here, so the bookkeeping for a second build is wasted
export CARGO_NET_RETRY=5
target=${CARGO_TARGET_DIR:-$PWD/target}
export DAMSON_FFMPEG=${DAMSON_FFMPEG:-$target/ffmpeg/ffmpeg} # the newer one; see newer_ffmpeg

# --- the steps ---------------------------------------------------------------------------------------

setup() { # what is missing on a fresh Debian or Ubuntu: browsers, ffmpeg, the MPD schema's checker, Prometheus, npm packages
    local missing=()
    have ffmpeg || missing+=(ffmpeg)
    have xmllint || missing+=(libxml2-utils)
    have chromium || have chromium-browser || have google-chrome || missing+=(chromium)
    have c++ || missing+=(g++) # libFuzzer is C++
    have curl || missing+=(curl)
    have ip || missing+=(iproute2) # networks of their own for clusters and for the commands of the docs
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    if ((${#missing[@]})); then
        if ! have apt-get; then
            echo "please install: ${missing[*]}" >&2
            return 1
        fi
        as_root apt-get update -q
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
    fi
    local folder
    for folder in player-demo tests/browser; do
        [[ -f $folder/package-lock.json ]] && (cd $folder && npm ci --no-audit --no-fund)
    done
    newer_ffmpeg
    prometheus_itself
    cargo fetch --locked
    cargo fetch --locked --manifest-path tests/fuzz/Cargo.toml
    rustc --version
    ffmpeg -version | head -n 1
    "$DAMSON_FFMPEG" -version | sed -n 1p
    node --version
}

newer_ffmpeg() { # Debian's 5.1 has no Enhanced RTMP: one that has is in a wheel of PyPI's imageio-ffmpeg
    local version=0.8.1 folder=$target/ffmpeg # ffmpeg 9.0.2
    [[ $DAMSON_FFMPEG == "$folder/ffmpeg" && ! -f $folder/$version ]] || return 0
    rm -rf "$folder"
    mkdir -p "$folder"
    python3 -m pip download -q --no-deps --only-binary :all: -d "$folder" "imageio-ffmpeg==$version"
    python3 -c 'import sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(name for name in wheel.namelist() if "/binaries/ffmpeg-" in name)
open(sys.argv[2], "wb").write(wheel.read(name))' "$folder"/*.whl "$folder/ffmpeg"
    chmod +x "$folder/ffmpeg"
    rm "$folder"/*.whl
    touch "$folder/$version"
}

fmt() { # rustfmt
    cargo fmt --all --check
}

clippy() { # lints, warnings are errors
    cargo clippy --locked --workspace --all-targets -- -D warnings
}

docs() { # the documentation builds, and its links lead somewhere
    RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
}

test() { # unit tests, simulations, integration tests, style and licences (tests/it)
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --workspace --profile ci
    else
        cargo test --locked --workspace --no-fail-fast
    fi
    cargo test --locked --workspace --doc
}

pure() { # damson-core stands on nothing that does I/O, and builds for wasm32-unknown-unknown where that target is installed
    if cargo tree --locked -p damson-core -e normal --prefix none | grep -E '^(tokio|mio|socket2|quinn|rustls|hyper)'; then
        echo 'damson-core depends on crates that do I/O' >&2
        return 1
    fi
    local target=()
    if [[ -d $(rustc --print target-libdir --target wasm32-unknown-unknown) ]]; then
        target=(--target wasm32-unknown-unknown)
    else
        echo 'wasm32-unknown-unknown is not installed (rustup target add wasm32-unknown-unknown): checked for this machine instead'
    fi
    cargo check --locked -p damson-core "${target[@]}"
}

fuzz() { # the fuzz targets build, take their seeds, and each is clean for 30 s, or for SECONDS
    tests/fuzz/run.sh "$fuzz_seconds"
}

browser() { # four processes in a line, and headless Chromium at the far end
    # As step `test` builds it: built for damson alone, a third of the dependencies would have other features and be built again.
    cargo test --locked --workspace --no-run
    [[ -d tests/browser/node_modules ]] || (cd tests/browser && npm ci --no-audit --no-fund)
    (cd tests/browser && DAMSON_BIN="$target/debug/damson" npm test)
}

# --- the frame ---------------------------------------------------------------------------------------

have() { command -v "$1" >/dev/null; }

# Prometheus, whose linter and server read /metrics: Debian's package, unpacked and not installed, since that would start it.
prometheus_itself() {
    local folder=$target/prometheus
    [[ -x $folder/usr/bin/promtool ]] || { have promtool && have prometheus; } && return
    if ! have apt-get; then
        echo "please install: prometheus" >&2
        return 1
    fi
    mkdir -p "$folder"
    (cd "$folder" && { apt-get download -q prometheus || { as_root apt-get update -q && apt-get download -q prometheus; }; })
    dpkg-deb -x "$folder"/prometheus_*.deb "$folder"
    rm "$folder"/prometheus_*.deb
}
as_root() { if [[ $(id -u) == 0 ]]; then "$@"; else sudo "$@"; fi; }

# The tests that a step's log tells of, as "PASSED FAILED SKIPPED": nextest, cargo test, and node --test each have a summary. What
# skips itself under the first two says so in a file.
tests_in() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        / tests? run: /           { for (i = 1; i < NF; i++) { if ($(i+1) ~ /^passed/) p += $i
                                    if ($(i+1) ~ /^(failed|timed|exec)/) f += $i } }
        /^test result: /          { for (i = 1; i < NF; i++) { if ($(i+1) == "passed;") p += $i; if ($(i+1) == "failed;") f += $i } }
        /^(#|ℹ) pass [0-9]+$/     { p += $3 }
        /^(#|ℹ) (fail|cancelled) [0-9]+$/ { f += $3 }
        /^(#|ℹ) skipped [0-9]+$/  { s += $3 }
        END                       { print p + 0, f + 0, s + 0 }'
}

skips_max=3 # a run that skips more says too little of the code

chosen=()
fuzz_seconds=30
for word in "$@"; do
    if [[ $word =~ ^[0-9]+$ ]]; then
        fuzz_seconds=$word
    elif [[ " ${steps[*]} " == *" $word "* ]]; then
        chosen+=("$word")
    else
        echo "no step '$word'; there are: ${steps[*]}" >&2
        exit 2
    fi
done
((${#chosen[@]})) || chosen=("${steps[@]}")

mkdir -p "$target/run"
skips=$target/run/skips
: >"$skips"
export DAMSON_SKIPPED=$target/run/skipped # where a test that skips itself says so
passed=0 failed=0 skipped=0 summary=()
for step in "${chosen[@]}"; do
    printf '\n=== %s: %s\n' "$step" "$(sed -n "s/^$step() { # //p" tests/run.sh)"
    log=$target/run/$step.log began=$SECONDS status=0
    : >"$DAMSON_SKIPPED"
    set +e # inside `if` or `||` bash would go on after a failed command of the step
    (set -e; "$step") 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    read -r p f s < <(tests_in "$log")
    itself=$(wc -l <"$DAMSON_SKIPPED")
    p=$((p - itself)) s=$((s + itself))
    { grep -h ' # SKIP ' "$log" || true; cat "$DAMSON_SKIPPED"; } | sed 's/^ *//' >>"$skips"
    # A step without tests counts as one; a step that fails without a failed test (it didn't build) counts as failed, too.
    if ((status == 0 && p + f == 0)); then p=1; fi
    if ((status != 0 && f == 0)); then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    verdict=ok
    if ((status != 0 || f > 0)); then verdict=FAILED; fi
    summary+=("$(printf '%-8s %-6s %4d passed %3d failed %3d skipped %5d s' "$step" "$verdict" "$p" "$f" "$s" $((SECONDS - began)))")
done

printf '\n=== %s s in all\n' "$SECONDS"
cat "$skips"
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
if ((skipped > skips_max)); then
    echo "FAILED: $skipped tests were skipped, and at most $skips_max may be; run it again on a machine with more time" >&2
fi
((failed == 0 && skipped <= skips_max))
