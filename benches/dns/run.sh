#!/usr/bin/env bash
# Compares Linkspan's names with CoreDNS (`file` plugin), both with the same names, over UDP on loopback.
#
#   benches/dns/run.sh [ROUNDS [SECONDS]]      5 rounds of 5 s by default
#
# Each round measures both servers one after the other, at full rate. Then both are asked at half of their own highest
# rate, and the time of every answer is looked at. CPU seconds are the server's own, from /proc. The last line is
# `RESULT` with key=value pairs; the same as JSON is in target/bench/dns.json.
#
# Needs dnsperf, dig, and target/peers/coredns (tests/setup.sh packages coredns).
set -euo pipefail

rounds=${1:-5}
seconds=${2:-5}
names=100000
port=5390
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=$(mktemp -d)
server=
trap 'stop; rm -rf "$work"' EXIT

fail() { printf 'bench dns: %s\n' "$*" >&2; exit 1; }

# start linkspan|coredns: the server answers on 127.0.0.1:$port when this returns.
start() {
  case $1 in
  linkspan) "$serve" listen "127.0.0.1:$port" "$names" >"$work/log" 2>&1 & ;;
  coredns) "$tree/target/peers/coredns" -conf "$work/Corefile" >"$work/log" 2>&1 & ;;
  esac
  server=$!
  for ((i = 0; i < 300; i++)); do
    kill -0 "$server" 2>/dev/null || fail "$1 ended: $(cat "$work/log")"
    # The last name: the whole zone is loaded.
    [[ $(dig @127.0.0.1 -p "$port" +short +tries=1 +timeout=1 svc-999.ns-99.svc.clusterset.local) == 10.1.134.160 ]] &&
      return
    sleep 0.1
  done
  fail "$1 does not answer: $(cat "$work/log")"
}

stop() {
  [[ -z $server ]] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  server=
}

# Clock ticks that the server has run, user and system.
ticks() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$server/stat"; }

perf() { dnsperf -s 127.0.0.1 -p "$port" -d "$work/queries" -c 8 -e "$@"; }

# full NAME: one run at full rate; adds "queries ticks rate" to $work/NAME.
full() {
  local before after completed rate lost
  start "$1"
  perf -l 1 >/dev/null
  before=$(ticks)
  perf -l "$seconds" >"$work/out"
  after=$(ticks)
  stop
  completed=$(awk '/Queries completed:/ { print $3 }' "$work/out")
  lost=$(awk '/Queries lost:/ { print $3 }' "$work/out")
  rate=$(awk '/Queries per second:/ { print $4 }' "$work/out")
  echo "$completed $((after - before)) $rate" >>"$work/$1"
  awk -v n="$1" -v q="$completed" -v t=$((after - before)) -v r="$rate" -v l="$lost" -v hz="$(getconf CLK_TCK)" \
    'BEGIN { printf "%-10s %8.0f queries/s  %7.0f queries per CPU second  %5.2f us each  %d lost\n", n, r, q * hz / t, t * 1e6 / hz / q, l }'
}

# half NAME: prints the 50th, 99th and 99.9th percentile in ms at half of the highest rate.
half() {
  local rate
  rate=$(sort -k3 -n "$work/$1" | tail -1 | awk '{ printf "%d", $3 / 2 }')
  start "$1"
  perf -l 1 -Q "$rate" >/dev/null
  # Into a file: who reads along takes a core from those that are measured.
  perf -l "$seconds" -Q "$rate" -v >"$work/answers"
  stop
  awk '$1 == ">" { print $NF }' "$work/answers" | sort -g >"$work/times"
  awk -v rate="$rate" '{ t[NR] = $1 * 1000 } END { if (!NR) exit 1
    print rate, t[int((NR - 1) * .5) + 1], t[int((NR - 1) * .99) + 1], t[int((NR - 1) * .999) + 1], NR }' "$work/times"
}

# median NAME: queries per CPU second, the median of all rounds.
median() {
  awk -v hz="$(getconf CLK_TCK)" '{ print $1 * hz / $2 }' "$work/$1" | sort -g |
    awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

for program in dnsperf dig "$tree/target/peers/coredns"; do
  command -v "$program" >/dev/null || fail "$program is missing: run tests/setup.sh packages coredns"
done
(cd "$tree" && cargo build --quiet --release --locked -p linkspan-dns --example serve)
serve=${CARGO_TARGET_DIR:-$tree/target}/release/examples/serve
"$serve" zone "$names" >"$work/zone"
"$serve" queries "$names" 200000 >"$work/queries"
cat >"$work/Corefile" <<COREFILE
clusterset.local:$port {
  bind 127.0.0.1
  file $work/zone
}
COREFILE

echo "$names names, UDP on loopback, $(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(uname -r)"
for ((round = 1; round <= rounds; round++)); do
  full linkspan
  full coredns
done
ours=$(median linkspan)
theirs=$(median coredns)
read -r rate p50 p99 p999 count < <(half linkspan)
read -r their_rate their_p50 their_p99 their_p999 _ < <(half coredns)
printf 'at half rate: linkspan %d/s p50 %.3f p99 %.3f p99.9 %.3f ms (%d answers); ' "$rate" "$p50" "$p99" "$p999" "$count"
printf 'coredns %d/s p50 %.3f p99 %.3f p99.9 %.3f ms\n' "$their_rate" "$their_p50" "$their_p99" "$their_p999"

mkdir -p "$tree/target/bench"
awk -v a="$ours" -v b="$theirs" -v p="$p99" -v q="$their_p99" 'BEGIN {
  printf "{\"dns_vs_coredns\": %.2f, \"dns_p99_ms\": %.3f, \"dns_queries_per_cpu_second\": %.0f, ", a / b, p, a
  printf "\"coredns_queries_per_cpu_second\": %.0f, \"coredns_p99_ms\": %.3f}\n", b, q }' >"$tree/target/bench/dns.json"
awk -v a="$ours" -v b="$theirs" -v p="$p99" \
  'BEGIN { printf "RESULT dns_vs_coredns=%.2f dns_p99_ms=%.3f dns_queries_per_cpu_second=%.0f coredns_queries_per_cpu_second=%.0f\n", a / b, p, a, b }'
