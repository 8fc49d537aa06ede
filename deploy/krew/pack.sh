#!/usr/bin/env bash
# Packs the archive that krew installs the plugin from: kubectl-linkspan and LICENSE.
#
#   deploy/krew/pack.sh FOLDER [BINARY]
#
# In FOLDER it makes kubectl-linkspan-linux-amd64.tar.gz or kubectl-linkspan-linux-arm64.tar.gz, by what BINARY is for.
# BINARY should be static and is packed as it is; when it is not given, deploy/image/build.sh builds one for ARCH (amd64 or
# arm64; default: this machine's). A release runs this for both, and then deploy/krew/render.sh over both archives.
#
# The same binary gives the same bytes; SOURCE_DATE_EPOCH (default: the last commit) dates it.
set -euo pipefail
# What others have set must not show.
umask 022
export LC_ALL=C TZ=UTC
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

source "$top/deploy/image/architecture.sh"

folder=${1:?usage: pack.sh FOLDER [BINARY]}
binary=${2:-}
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [[ -z $binary ]]; then
  binary=$work/built
  "$top/deploy/image/build.sh" "$binary"
fi

architecture=$(architecture_of "$binary")

install -m 755 "$binary" "$work/kubectl-linkspan"
install -m 644 "$top/LICENSE" "$work/LICENSE"
mkdir -p "$folder"
output=$folder/kubectl-linkspan-linux-$architecture.tar.gz
tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --format=ustar -C "$work" -cf - LICENSE kubectl-linkspan |
  gzip -n -6 >"$output"
printf 'pack.sh: %s, %s kB\n' "$output" $(($(stat -c %s "$output") / 1000)) >&2
