#!/usr/bin/env bash
# Packs Linkspan's image without a container engine: one layer with the static binary, `nft` and the libraries that it
# needs, and no shell. The same binary, on the same Debian, gives the same bytes, whoever packs it, when and where. The same
# tree and toolchain give the same binary, as far as rustc does: no path of the machine is in it.
#
#   deploy/image/pack.sh OUTPUT.tar [BINARY]
#
# OUTPUT.tar is a docker-archive: `ctr -n k8s.io images import OUTPUT.tar`, `docker load -i OUTPUT.tar` and
# `k3s ctr images import OUTPUT.tar` take it. BINARY, for instance one that is to be tested, is built when it is not given.
#
# ARCH is amd64 or arm64 (default: this machine's); for the other one nft comes from Debian's packages of it. IMAGE (default
# linkspan/linkspan:0.1.0) names the image; SOURCE_DATE_EPOCH (default: the last commit) dates it.
set -euo pipefail
# What others have set must not show.
umask 022
export LC_ALL=C TZ=UTC
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

source "$top/deploy/image/architecture.sh"
output=${1:?usage: pack.sh OUTPUT.tar [BINARY]}
binary=${2:-}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$top/Cargo.toml")
image=${IMAGE:-linkspan/linkspan:$version}
epoch=${SOURCE_DATE_EPOCH:-$(git -C "$top" log -1 --format=%ct 2>/dev/null || echo 0)}

work=$(mktemp -d)
: >"$work/packages"
trap 'rm -rf "$work"' EXIT
if [[ -n $binary ]]; then
  of=$(architecture_of "$binary")
  [[ $of == "$architecture" ]] || fail "$binary is for $of, and the image for $architecture: set ARCH=$of"
fi
# What the machine's packages are installed in, and the other architecture's are unpacked in.
system=
path=/usr/sbin:/sbin:$PATH
if [[ $machine != "$(uname -m)" ]]; then
  system=$work/system
  path=$system/usr/sbin:$system/sbin
  "$top/deploy/image/debian.sh" "$system" nftables
fi
nft=$(PATH=$path command -v nft) || fail 'nft is missing: install the Debian package nftables'
if [[ -z $binary ]]; then
  binary=$work/linkspan
  "$top/deploy/image/build.sh" "$binary"
fi
root=$work/root
mkdir -p "$root"/{etc,run/linkspan,usr/bin,usr/sbin,usr/share/doc,var/lib/linkspan}
mkdir -m 1777 "$root/tmp"
ln -s usr/bin "$root/bin"; ln -s usr/sbin "$root/sbin"; ln -s usr/lib "$root/lib"

install -m 755 "$binary" "$root/usr/bin/linkspan"
[[ -n $system ]] || strip --strip-all "$root/usr/bin/linkspan"
ln -s linkspan "$root/usr/bin/kubectl-linkspan"
printf 'root:x:0:0:root:/:/nonexistent\nlinkspan:x:65532:65532:linkspan:/:/nonexistent\n' >"$root/etc/passwd"
printf 'root:x:0:\nlinkspan:x:65532:\n' >"$root/etc/group"
# Names of brokers are asked for as everywhere.
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

# named FILE: what it names to be loaded with, and its loader
named() { readelf --wide --dynamic --program-headers "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p; s/.*interpreter: \(.*\)\]$/\1/p'; }
# loaded FILE: the files that it is loaded with. `ldd` runs it, which works for the machine's own architecture alone.
loaded() {
  if [[ -z $system ]]; then ldd "$1" 2>/dev/null | grep -o '/[^ :]*' | grep -vxF "$1" || true; return; fi
  local name path
  for name in $(named "$1"); do
    # The loader is named by its path. Where /lib is a link, a package of its own makes it.
    path=$system$name
    [[ -L $path || -e $path ]] || path=$system/usr$name
    [[ $name == /* ]] || path=$(find "$system" -path '*/lib/*' -name "$name" -print -quit)
    [[ -L $path || -e $path ]] || fail "$name is missing, which $1 needs"
    printf '%s\n' "$path"; loaded "$path"
  done
}

# real FILE: what a link stands for; among unpacked packages, it stays among them.
real() {
  local file=$1 to
  while [[ -n $system && -L $file ]]; do
    to=$(readlink "$file")
    [[ $to == /* ]] && file=$system$to || file=$(dirname "$file")/$to
  done
  readlink -f "$file"
}

# nft, its loader and its libraries (and those of a BINARY that is not static) where the loader looks for them, and what
# their licences ask to be passed on.
install -m 755 "$nft" "$root/usr/sbin/nft"
files=("$(real "$nft")")
libraries=$({ loaded "$nft"; loaded "$binary"; } | sort -u)
for library in $libraries; do
  folder=$(dirname "$library")
  case ${folder#"$system"} in
    /lib64 | /usr/lib64) mkdir -p "$root/lib64"; to=$root/lib64 ;;
    *) to=$root/usr/lib/$(basename "$folder"); [[ $(basename "$folder") == lib ]] && to=$root/usr/lib; mkdir -p "$to" ;;
  esac
  install -m 755 "$(real "$library")" "$to/$(basename "$library")"
  files+=("$(real "$library")")
done
query=(dpkg-query "--admindir=$system/var/lib/dpkg")
for file in "${files[@]}"; do
  file=${file#"$system"}
  package=$("${query[@]}" -S "$file" "${file#/usr}" 2>/dev/null | head -n 1 | cut -d : -f 1 || true)
  copyright=$system/usr/share/doc/$package/copyright
  if [[ -n $package && -f $copyright ]]; then
    install -D -m 644 "$(real "$copyright")" "$root/usr/share/doc/$package/copyright"
    "${query[@]}" -W -f '${Package} ${Version} ${Architecture}\n' "$package" | head -n 1 >>"$work/packages"
  fi
done
install -d -m 755 "$root/usr/share/doc/linkspan"
# Beside deploy/image/sbom.sh, which lists the crates: where the rest of the image comes from.
sort -u "$work/packages" >"$root/usr/share/doc/linkspan/packages"
install -D -m 644 "$top/LICENSE" "$root/usr/share/doc/linkspan/LICENSE"

pack() { # FOLDER NAME...: a tar that depends on the files alone
  local folder=$1; shift
  tar --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner --format=ustar -C "$folder" -cf - "$@"
}
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

pack "$root" . >"$work/layer"
layer=$(digest "$work/layer")
mkdir -p "$work/archive/$layer"
gzip -n -6 <"$work/layer" >"$work/archive/$layer/layer.tar"
created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
cat >"$work/config" <<JSON
{"architecture":"$architecture","os":"linux","created":"$created","config":{"Entrypoint":["/usr/bin/linkspan"],"Env":["PATH=/usr/sbin:/usr/bin"],"WorkingDir":"/","Labels":{"org.opencontainers.image.title":"Linkspan","org.opencontainers.image.version":"$version","org.opencontainers.image.licenses":"Apache-2.0"}},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created":"$created","created_by":"deploy/image/pack.sh"}]}
JSON
config=$(digest "$work/config")
mv "$work/config" "$work/archive/$config.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s/layer.tar"]}]\n' "$config" "$image" "$layer" \
  >"$work/archive/manifest.json"
mkdir -p "$(dirname "$output")"
pack "$work/archive" "$config.json" "$layer/layer.tar" manifest.json >"$output"
size=$(stat -c %s "$output")
note "$output: $image, $((size / 1000)) kB"
# What the project promises of the program as releases have it. One that is not static is somebody's own, and may be larger.
named "$root/usr/bin/linkspan" | grep -q . || ((size < 15000000)) || { rm "$output"; fail 'the image is larger than 15 MB'; }
