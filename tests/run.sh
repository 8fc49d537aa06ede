#!/usr/bin/env bash
# Runs all tests. Most wait more than they compute: two programs of tests run at a time, and those of whole clusters beside
# them. What fails is run once more by itself, since real clusters and real traffic can be late for reasons of a busy machine.
# What passes only then is told at the end; what fails twice has failed, and so has a program that crashes.
# With arguments, runs those of whole clusters that they choose, as arguments of a test program: `tests/run.sh faults --ignored`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=("${CARGO:-cargo}" test --workspace --locked)
# How many failures of one program are taken for the machine's.
export AGAIN_AT_MOST=3
# Kubernetes and kubectl are Go: a third of what they compute is garbage collection, unless they may keep more of it.
export GOGC=400 GOMEMLIMIT=600MiB
# Programs that run for minutes: they begin first.
LONG=$'\t(kubectl|lab|interop|controller/(broker|services)|tests/testbed/cluster)$'

# A line for each program of tests: its path, the folder that it runs in, and what it is called here. All are built at
# once: a choice of targets has cargo build dependencies anew.
programs() {
  "${cargo[@]}" --no-run --message-format json-render-diagnostics | jq -r --arg tree "$PWD/" '
    select(.reason == "compiler-artifact" and .executable and .profile.test)
    | (.manifest_path | rtrimstr("/Cargo.toml")) as $folder
    | [.executable, $folder, ((($folder + "/") | ltrimstr($tree)) + .target.name)] | @tsv'
}

say() { printf 'tests: %s\n' "$*" >&2; }

# run PROGRAM FOLDER ARGUMENT...
run() { (cd "$2" && "$1" "${@:3}") 2>&1; }

# judge NAME LOG PROGRAM FOLDER STATUS: runs the tests again that have failed by a program's LOG, and tells what became of it.
judge() {
  local failed
  mapfile -t failed < <(sed -nE 's/^(clusters\| )?test (.*) \.\.\. FAILED$/\2/p' "$2")
  if (($5 == 0)); then
    return 0
  elif ((${#failed[@]} == 0 || ${#failed[@]} > AGAIN_AT_MOST)); then
    echo "$1 has failed: ${failed[*]:-it ended with $5}" >>"$told/failed"
    return 1
  fi
  say "$1: once more, each by itself: ${failed[*]}"
  if run "$3" "$4" --exact --test-threads 1 "${failed[@]}" | tee "$2" && grep -q "^test result: ok. ${#failed[@]} passed" "$2"; then
    printf '%s: %s\n' "$1" "${failed[*]}" >>"$told/again"
  else
    echo "$1 has failed twice: ${failed[*]}" >>"$told/failed"
  fi
}

# one LINE: runs a program, and says what it said when it has ended, so that no two mix.
one() {
  local program folder name log began=$SECONDS status
  IFS=$'\t' read -r program folder name <<<"$1"
  log=$(mktemp "$told/log.XXXXXX")
  say "$name ..."
  run "$program" "$folder" --skip whole_clusters:: >"$log"
  status=$?
  {
    flock 9
    printf '\n     Running %s (%s s)\n' "$name" "$((SECONDS - began))"
    cat "$log"
  } 9>"$told/lock"
  judge "$name" "$log" "$program" "$folder" "$status"
}

all=$(programs) || exit
clusters=$(grep -P '\tclusters$' <<<"$all") || { say "cargo named no program of tests/clusters"; exit 1; }
IFS=$'\t' read -r program folder _ <<<"$clusters"
(($#)) && exec "$program" "$@"

told=$(mktemp -d) && trap 'rm -rf "$told"' EXIT
export told
export -f say run judge one
(
  run "$program" "$folder" whole_clusters:: | sed -u 's/^/clusters| /' | tee "$told/clusters.log"
  judge clusters "$told/clusters.log" "$program" "$folder" "${PIPESTATUS[0]}"
) &
{ grep -P "$LONG" <<<"$all"; grep -Pv "$LONG" <<<"$all"; } | xargs -d '\n' -P 2 -n 1 bash -c 'one "$0"'
"${cargo[@]}" --doc || echo "the tests in documentation have failed" >>"$told/failed"
[[ ! -e $told/failed ]] || say 'one has failed, see above; waiting for those of whole clusters to end'
wait

[[ ! -e $told/again ]] || { say 'these have failed, and passed when they were run again:'; sed 's/^/tests:   /' "$told/again" >&2; }
[[ ! -e $told/failed ]] || { sed 's/^/tests: /' "$told/failed" >&2; exit 1; }
say "all have passed, in $((SECONDS / 60)) min"
