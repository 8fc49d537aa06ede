#!/usr/bin/env bash
# Runs each fuzz target for some seconds: tests/fuzz/run.sh [SECONDS [TARGET...]]
#
# Found inputs are kept in tests/fuzz/target/corpus, which is not checked in; the checked-in seeds are only read. A
# crash is written to tests/fuzz/artifacts: minimise it with `cargo fuzz tmin`, fix it, and add it to tests/fuzz/corpus.
set -euo pipefail
fuzz=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
seconds=${1:-60}
targets=("${@:2}")

rustc +nightly --version >/dev/null 2>&1 || {
  echo "fuzzing needs a nightly compiler: rustup toolchain install nightly" >&2
  exit 1
}
export RUSTUP_TOOLCHAIN=nightly
cargo_fuzz() { "$fuzz/../../target/peers/cargo-fuzz" fuzz "$1" --fuzz-dir "$fuzz" "${@:2}"; }

((${#targets[@]})) || mapfile -t targets < <(basename -s .rs "$fuzz"/fuzz_targets/*.rs)
cargo_fuzz build
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  mkdir -p "$fuzz/target/corpus/$target"
  # 65 535 bytes is the largest datagram; a hang is a failure as well.
  cargo_fuzz run "$target" "$fuzz/target/corpus/$target" "$fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -max_len=65535 -timeout=5 -rss_limit_mb=512 -print_final_stats=1
done
