#!/usr/bin/env bash
# Builds the program as releases have it: static, without symbols.
#
#   deploy/image/build.sh FILE
#
# ARCH is amd64 or arm64 (default: this machine's). The same tree and toolchain give the same bytes, as far as rustc does: no
# path of the machine is in them. It links musl, whose standard library rustup installs when it is missing; it needs a C compiler
# (Debian: build-essential; for the other architecture gcc-aarch64-linux-gnu or gcc-x86-64-linux-gnu). CARGO (default cargo)
# names another cargo.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$top/deploy/image/architecture.sh"
output=${1:?usage: build.sh FILE}
cargo=${CARGO:-cargo}
target=$machine-unknown-linux-musl
compiler=${CC:-cc} strip=strip
if [[ $machine != "$(uname -m)" ]]; then
  compiler=$machine-linux-gnu-gcc strip=$machine-linux-gnu-strip
  command -v "$compiler" >/dev/null ||
    fail "$compiler is missing: install the Debian package gcc-${machine/_/-}-linux-gnu, or build on a machine of this architecture"
fi

cd "$top"
sysroot=$(rustc --print sysroot)
flags="--remap-path-prefix=$top=/linkspan --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
flags+=" --remap-path-prefix=$sysroot=/rust"
if [[ ! -d $sysroot/lib/rustlib/$target ]] && command -v rustup >/dev/null; then
  note "installing Rust's standard library for $target"
  rustup --quiet target add "$target" >&2 || true
fi
if [[ ! -d $sysroot/lib/rustlib/$target ]]; then
  [[ $machine == "$(uname -m)" ]] || fail "Rust's standard library for $target is missing: rustup target add $target"
  note "Rust's standard library for $target is missing (rustup target add $target): linking glibc instead, statically as well"
  target=$machine-unknown-linux-gnu
  flags+=' -C target-feature=+crt-static'
fi
note "building for $target"
name=${target//-/_}
env "CC_$name=$compiler" "CARGO_TARGET_${name^^}_LINKER=$compiler" RUSTFLAGS="${RUSTFLAGS:-} $flags" \
  "$cargo" build --release --locked --target-dir "$top/target" --target "$target" --bin linkspan >&2
"$strip" --strip-all -o "$output" "$top/target/$target/release/linkspan"
