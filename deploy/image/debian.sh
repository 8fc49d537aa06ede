#!/usr/bin/env bash
# Unpacks a Debian package of another architecture, and all that it needs, into a folder, as a system of that architecture has
# them. Nothing of it is installed or run, and this machine's own packages are not touched.
#
#   deploy/image/debian.sh FOLDER PACKAGE
#
# ARCH is amd64 or arm64. It takes the packages from where this machine's apt takes its own, and writes what belongs to which
# package where `dpkg-query --admindir=FOLDER/var/lib/dpkg` finds it.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/architecture.sh"
folder=$(realpath -m "${1:?usage: debian.sh FOLDER PACKAGE}")
package=${2:?usage: debian.sh FOLDER PACKAGE}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As a system on which nothing is installed yet. Its user may not be apt's, who reads and writes nothing of ours.
mkdir -p "$work"/{lists,archives} "$folder/var/lib/dpkg/info"
: >"$work/status"
# Names of lists have the architecture in them.
echo 1 >"$folder/var/lib/dpkg/info/format"
apt=(apt-get -qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture" -o APT::Install-Recommends=false
  -o "Dir::State::lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work" -o APT::Sandbox::User=root)
note "fetching $package for $architecture from Debian"
"${apt[@]}" update
"${apt[@]}" --yes --download-only install "$package" >&2

for archive in "$work"/archives/*.deb; do
  dpkg-deb --extract "$archive" "$folder"
  name=$(dpkg-deb --field "$archive" Package)
  [[ $(dpkg-deb --field "$archive" Multi-Arch) == same ]] && name+=:$architecture
  dpkg-deb --fsys-tarfile "$archive" | tar -t | sed -n 's,^\./\(.*[^/]\)$,/\1,p' >"$folder/var/lib/dpkg/info/$name.list"
  { dpkg-deb --field "$archive"; printf 'Status: install ok installed\n\n'; } >>"$folder/var/lib/dpkg/status"
done
