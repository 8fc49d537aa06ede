#!/usr/bin/env bash
# Builds the last commit's program in two folders, packs both, and says whether the two images are the same bytes.
#
#   deploy/image/reproduce.sh
#
# It takes two release builds' time (CARGO_PROFILE_RELEASE_OPT_LEVEL=0, CARGO_PROFILE_RELEASE_LTO=off and the like shorten
# them: what could tell the folders apart, paths and their order, is in such builds too). Exit code 1: they differ.
set -euo pipefail
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
note() { printf 'reproduce.sh: %s\n' "$*" >&2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Of other names and depths, for a path that stands in the program to show.
folders=("$work/one" "$work/in/another/folder")
for folder in "${folders[@]}"; do
  note "building in $folder"
  git clone --quiet --no-hardlinks "$top" "$folder"
  # A target folder that others have set would make both builds one.
  env -u CARGO_TARGET_DIR "$folder/deploy/image/build.sh" "$folder/linkspan"
  "$folder/deploy/image/pack.sh" "$folder/image.tar" "$folder/linkspan"
  # Room for the other one.
  rm -rf "$folder/target"
done
(cd "$work" && sha256sum "${folders[@]/%//linkspan}" "${folders[@]/%//image.tar}")
for file in linkspan image.tar; do
  cmp "${folders[0]}/$file" "${folders[1]}/$file" || { note "$file differs: the build is not reproducible"; exit 1; }
done
note 'both are the same bytes'
