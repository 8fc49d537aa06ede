#!/usr/bin/env bash
# Builds the program as releases have it: static, without symbols, for this machine's architecture.
#
#   deploy/image/build.sh FILE
#
# The same tree and toolchain give the same bytes, as far as rustc does: no path of the machine is in them. It needs a linker
# and `strip` (Debian: build-essential). CARGO (default cargo) names another cargo.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
output=${1:?usage: build.sh FILE}
cargo=${CARGO:-cargo}

# musl where its standard library is installed, else glibc, linked statically as well.
sysroot=$(cd "$top" && rustc --print sysroot)
target=$(uname -m)-unknown-linux-musl
flags="--remap-path-prefix=$top=/linkspan --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
flags+=" --remap-path-prefix=$sysroot=/rust"
if [[ ! -d $sysroot/lib/rustlib/$target ]]; then
  target=$(uname -m)-unknown-linux-gnu
  flags+=' -C target-feature=+crt-static'
fi
printf 'build.sh: building for %s\n' "$target" >&2
(cd "$top" && RUSTFLAGS="${RUSTFLAGS:-} $flags" "$cargo" build --release --locked --target "$target" --bin linkspan) >&2
strip --strip-all -o "$output" "$top/target/$target/release/linkspan"
