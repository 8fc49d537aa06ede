#!/usr/bin/env bash
# Runs all tests. Those of whole clusters wait more than they compute: they run beside all others, and what they say is marked.
# With arguments, runs those of whole clusters that they choose, as arguments of a test program: `tests/run.sh faults --ignored`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=("${CARGO:-cargo}" test --workspace --locked)

# By its path: a choice of targets has cargo build dependencies anew.
built=$("${cargo[@]}" --no-run --color never 2> >(tee >(cat >&2) | sed -n 's|^ *Executable tests/clusters/main.rs (\(.*\))$|\1|p')) || exit
[[ -x $built ]] || { echo "tests: cargo named no program of tests/clusters but '$built'" >&2; exit 1; }
(($#)) && exec "$built" "$@"
("$built" 2>&1 | sed -u 's/^/clusters| /') &
clusters=$!
"${cargo[@]}" -- --skip whole_clusters::
others=$?
[[ $others == 0 ]] || echo 'tests: one has failed, see above; waiting for those of whole clusters to end' >&2
wait "$clusters" || { echo 'tests: those of whole clusters have failed: see the lines that begin with "clusters|"' >&2; exit 1; }
exit "$others"
