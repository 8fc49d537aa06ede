#!/usr/bin/env bash
# Runs all tests. Most wait more than they compute: two programs of tests run at a time, and those of whole clusters beside
# them. Real clusters and real traffic can be late for reasons of a busy machine: where few tests have failed, each is run once
# more when all others have ended, and what passes only then is told. A program that crashes has failed.
# With arguments, runs those of whole clusters that they choose, as arguments of a test program: `tests/run.sh faults --ignored`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo=("${CARGO:-cargo}" test --workspace --locked)
# How many failures of the whole run are taken for the machine's.
AGAIN_AT_MOST=3
# Kubernetes and kubectl are Go: a third of what they compute is garbage collection, unless they may keep more of it.
export GOGC=400 GOMEMLIMIT=600MiB
# Programs that wait for most of their time run so many tests at once; others as many as there are processors.
WAITING=$'(kubectl|controller/(broker|services))$' AT_ONCE=3
# Programs that run for minutes: they begin first.
LONG=$'\t(kubectl|lab|interop|controller/(broker|services)|tests/testbed/cluster)$'

# A line for each program of tests: its path, the folder that it runs in, and what it is called here. All are built at
# once: a choice of targets has cargo build dependencies anew.
programs() {
  "${cargo[@]}" --no-run --message-format json-render-diagnostics | jq -r --arg tree "$PWD/" '
    select(.reason == "compiler-artifact" and .executable and .profile.test)
    | (.manifest_path | rtrimstr("/Cargo.toml")) as $folder
    | (if .target.kind[0] == "bin" then " (program)" else "" end) as $kind
    | [.executable, $folder, ((($folder + "/") | ltrimstr($tree)) + .target.name + $kind)] | @tsv'
}

say() { printf 'tests: %s\n' "$*" >&2; }

# run PROGRAM FOLDER ARGUMENT...: ends it when it hangs; the slowest take a third of that time. In its group, to be ended with it.
run() { (cd "$2" && timeout --foreground --kill-after 30 40m "$1" "${@:3}") 2>&1; }

# note LINE LOG STATUS: how a program has ended, and which of its tests are worth another try.
note() {
  local failed number
  echo "$1" >>"$told/ended"
  (($3)) || return 0
  mapfile -t failed < <(sed -nE 's/^(clusters\| )?test (.*) \.\.\. FAILED$/\2/p' "$2")
  number=$(sed -nE 's/^(clusters\| )?test result: FAILED\. .* ([0-9]+) failed;.*/\2/p' "$2")
  # 101 is how a test program ends that has run all of its tests.
  if (($3 == 101 && ${#failed[@]} && ${#failed[@]} == ${number:-0})); then
    printf "$1\t%s\n" "${failed[@]}" >>"$told/again"
  else
    echo "${1##*$'\t'} ended with $3" >>"$told/failed"
  fi
}

# one LINE: runs a program, and says what it said when it has ended, so that no two mix.
one() {
  local program folder name log began=$SECONDS status
  IFS=$'\t' read -r program folder name <<<"$1"
  log=$(mktemp "$told/log.XXXXXX") || return 255
  say "$name ..."
  [[ ! $name =~ $WAITING ]] || export RUST_TEST_THREADS=$AT_ONCE
  run "$program" "$folder" --skip whole_clusters:: >"$log"
  status=$?
  {
    flock 9
    printf '\n     Running %s (%s s)\n' "$name" "$((SECONDS - began))"
    cat "$log"
    note "$1" "$log" "$status"
  } 9>"$told/lock"
  rm "$log"
}

# clusters LINE: runs the tests of whole clusters, and says at once what they say.
clusters() {
  local program folder
  IFS=$'\t' read -r program folder _ <<<"$1"
  run "$program" "$folder" whole_clusters:: | sed -u 's/^/clusters| /' | tee "$told/clusters.log"
  note "$1" "$told/clusters.log" "${PIPESTATUS[0]}"
}

# once_more PROGRAM FOLDER NAME TEST
once_more() {
  say "once more, by itself: $4 of $3"
  if run "$1" "$2" --exact "$4" | tee "$told/once.log" && grep -q '^test result: ok. 1 passed' "$told/once.log"; then
    echo "$4 of $3" >>"$told/late"
  else
    echo "$4 of $3 has failed twice" >>"$told/failed"
  fi
}

# Ends the tests of whole clusters, and says what programs that did not end have said.
clean() {
  kill -- -"$whole" 2>/dev/null && wait "$whole"
  tail -n +1 "$told"/log.* 2>/dev/null
  rm -rf "$told"
}

all=$(programs) || exit
whole_clusters=$(grep -P '\tclusters$' <<<"$all") || { say "cargo named no program of tests/clusters"; exit 1; }
IFS=$'\t' read -r program folder _ <<<"$whole_clusters"
(($#)) && exec "$program" "$@"

told=$(mktemp -d) || exit
export told WAITING AT_ONCE
export -f say run note one
# In a process group of their own, to be ended as one.
set -m
clusters "$whole_clusters" &
whole=$!
set +m
trap clean EXIT
trap 'exit 130' INT TERM
{ grep -P "$LONG" <<<"$all"; grep -Pv "$LONG" <<<"$all"; } | xargs -d '\n' -P 2 -n 1 bash -uo pipefail -c 'one "$0"'
"${cargo[@]}" --doc || echo "the tests in documentation have failed" >>"$told/failed"
wait "$whole"

# Whole clusters count twice, since their program has other tests, too.
[[ $(wc -l <"$told/ended") == $(($(wc -l <<<"$all") + 1)) ]] || echo "some programs of tests did not run to their end" >>"$told/failed"
touch "$told/again" "$told/failed" "$told/late"
if [[ -s $told/failed ]] || (($(wc -l <"$told/again") > AGAIN_AT_MOST)); then
  sed -E 's/.*\t(.*)\t(.*)/\2 of \1 has failed/' "$told/again" >>"$told/failed"
else
  while IFS=$'\t' read -r program folder name test; do
    once_more "$program" "$folder" "$name" "$test" </dev/null
  done <"$told/again"
fi
if [[ -s $told/failed ]]; then
  sed 's/^/tests: /' "$told/failed" >&2
  exit 1
fi
say "all have passed, in $((SECONDS / 60)) min; only when run once more: $(wc -l <"$told/late")"
sed 's/^/tests:   /' "$told/late" >&2
