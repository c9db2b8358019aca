#!/usr/bin/env bash
# A gateway under modest load for SOAK_SECONDS (3,600): does its memory stay flat?
#
# Three quarters of SOAK_RATE (200) requests a second are answered whole, a quarter are streams of 16 tokens. Prints the
# gateway's resident memory twice a minute, and ends with 1 if a request failed or if the last tenth of the time had
# more memory than the second tenth by over 5 % or over 4 MB, whichever is more: by then its bounded rings are full.
set -euo pipefail
cd "$(dirname "$0")/.."
bench=build/release/bench_proxy
seconds=${SOAK_SECONDS:-3600}
rate=${SOAK_RATE:-200}
source scripts/background.sh

start stub "$every" "$bench" stub
stub=$url
start gateway "$every" "$program" gateway --port 0 --gateway.io-threads 1 --backend "$stub" --access-log "$work/access.jsonl" \
  --session-store :memory:
gateway=$url gateway_pid=$pid
until_answers "$gateway"

"$bench" load --to "$gateway" --rate $((rate * 3 / 4)) --prompts 500 --seconds "$seconds" >"$work/whole.log" 2>&1 &
whole=$!
pids+=("$whole")
"$bench" load --to "$gateway" --rate $((rate / 4)) --prompts 500 --first --seconds "$seconds" >"$work/streams.log" 2>&1 &
streams=$!
pids+=("$streams")

began=$SECONDS
pause=$((seconds < 600 ? seconds / 20 + 1 : 30))
while sleep "$pause"; passed=$((SECONDS - began)); [ "$passed" -lt "$seconds" ]; do
  echo "$passed $(memory "$gateway_pid")" | tee -a "$work/memory.log" | awk '{printf "soak: after %d s %.1f MB\n", $1, $2 / 1024}'
  : >"$work/access.jsonl"
done
good=yes
wait "$whole" || good=no
wait "$streams" || good=no
echo "soak: whole answers: $(cat "$work/whole.log")"
echo "soak: streams, to the first token: $(cat "$work/streams.log")"
awk -v seconds="$seconds" '
  $1 >= seconds * 0.1 && $1 < seconds * 0.2 {before += $2; ++early}
  $1 >= seconds * 0.9 {after += $2; ++late}
  END {
    before /= early; after /= late
    printf "soak: %.1f MB in the second tenth of the time, %.1f MB in the last\n", before / 1024, after / 1024
    allowed = before * 0.05 > 4096 ? before * 0.05 : 4096
    exit after - before > allowed
  }' "$work/memory.log" || good=no
[ "$good" = yes ] || { echo "soak: failed" >&2; exit 1; }
