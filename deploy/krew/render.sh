#!/usr/bin/env bash
# Prints the krew manifest of a release.
#
#   deploy/krew/render.sh AMD64.tar.gz ARM64.tar.gz > linkspan.yaml
#
# The archives are those of deploy/krew/pack.sh. They are to be found where the manifest says: at the release of this version.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
amd64=${1:?usage: render.sh AMD64.tar.gz ARM64.tar.gz}
arm64=${2:?usage: render.sh AMD64.tar.gz ARM64.tar.gz}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$here/../../Cargo.toml")
digest() { sha256sum "$1" | cut -d ' ' -f 1; }

sed -e 1d -e "s/@VERSION@/$version/g" -e "s/@SHA256_AMD64@/$(digest "$amd64")/" -e "s/@SHA256_ARM64@/$(digest "$arm64")/" \
  "$here/linkspan.yaml"
