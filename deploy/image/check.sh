#!/usr/bin/env bash
# Runs what is in an image of pack.sh, as root: the program says its version and makes keys that `wg` makes the same of, and nft
# finds its loader and libraries. An image of another architecture is run by qemu (Debian: qemu-user-static).
#
#   deploy/image/check.sh IMAGE.tar
#
# ARCH is the image's architecture, amd64 or arm64 (default: this machine's).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/architecture.sh"
image=${1:?usage: check.sh IMAGE.tar}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tar -C "$work" -xf "$image"
mkdir "$work/root"
tar -C "$work/root" -xzf "$work"/*/layer.tar
grep -q "\"architecture\":\"$architecture\"" "$work"/*.json || fail "$image is not for $architecture"
run=(chroot "$work/root")
if [[ $machine != "$(uname -m)" ]]; then
  qemu=$(command -v "qemu-$machine-static") || fail "qemu-$machine-static is missing: install the Debian package qemu-user-static"
  cp "$qemu" "$work/root/qemu"
  run+=(/qemu)
fi

"${run[@]}" /usr/bin/linkspan version
private=$(wg genkey)
ours=$("${run[@]}" /usr/bin/linkspan pubkey <<<"$private")
theirs=$(wg pubkey <<<"$private")
[[ $ours == "$theirs" ]] || fail "linkspan pubkey says $ours and wg pubkey $theirs"
# The loader's --list loads all libraries, and runs nothing: qemu has no netlink of nftables.
loader=$(readelf --wide --program-headers "$work/root/usr/sbin/nft" | sed -n 's/.*interpreter: \(.*\)]$/\1/p')
"${run[@]}" "$loader" --list /usr/sbin/nft >"$work/libraries" || fail "nft cannot be loaded: $(cat "$work/libraries")"
! grep 'not found' "$work/libraries" || fail 'nft lacks libraries'
size=$(stat -c %s "$image")
note "$image: $architecture, $((size / 1000)) kB, runs"
