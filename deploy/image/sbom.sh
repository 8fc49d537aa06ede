#!/usr/bin/env bash
# Prints the software bill of materials of the binary, in CycloneDX 1.5: all crates that are linked into it, with versions,
# licences and digests. What else is in the image (nft and its libraries) lists /usr/share/doc/linkspan/packages in it.
#
#   tests/setup.sh cargo-cyclonedx && deploy/image/sbom.sh > linkspan.cdx.json
#
# ARCH is amd64 or arm64 (default: this machine's). The same tree gives the same bytes: SOURCE_DATE_EPOCH (default: the last
# commit) dates it.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$top/deploy/image/architecture.sh"
tool=$top/target/peers/cargo-cyclonedx
[[ -x $tool ]] || fail "$tool is missing: run tests/setup.sh cargo-cyclonedx"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}

# It writes a file beside each Cargo.toml of the workspace; ours is the program's.
name=sbom-$$
clean() { rm -f "$top/$name.json" "$top"/{tunnel,dns,controller,tests/testbed}/"$name.json"; }
trap clean EXIT
(cd "$top" && "$tool" cyclonedx --quiet --format json --spec-version 1.5 --no-build-deps --override-filename "$name" \
  --target "$machine-unknown-linux-musl" >&2)
# Where the tree was is nobody's business, and changes with it.
sed "s#path+file://$top#path+file:///linkspan#g; s#file://\\.#file:///linkspan#g" "$top/$name.json"
