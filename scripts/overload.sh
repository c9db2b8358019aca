#!/usr/bin/env bash
# The gateway before a backend of known capacity, offered more than that:
#
#   scripts/overload.sh            both parts
#   scripts/overload.sh twice      at twice its capacity for OVERLOAD_SECONDS (600): goodput stays within 10 % of
#                                  capacity's, and what is not served gets 429 with Retry-After
#   scripts/overload.sh flood      a tenant floods with long prompts for OVERLOAD_SECONDS: the p99 time to first token of
#                                  another moves by less than 20 %
#
# The backend answers 32 requests at a time, others wait there in order; ends with 1 if what is said above does not hold.
set -euo pipefail
cd "$(dirname "$0")/.."
bench=build/release/bench_proxy
seconds=${OVERLOAD_SECONDS:-600}
slots=32
parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(twice flood)
source scripts/background.sh
failed=no

gateway_before() {
  local stub=$1
  shift
  start gateway "$every" "$program" gateway --port 0 --gateway.io-threads 1 --backend "$stub" --gateway.slots "$slots" \
    --session-store :memory: "$@"
}
# number TEXT NAME: of a load's line.
goodput() { grep -o '([0-9.]* a second)' | tr -dc '0-9.\n'; }
p99() { grep -o 'p99 [0-9.]*' | head -1 | cut -d' ' -f2; }

# 1 kB of prompt takes 5 ms, an answer 45 ms more: 640 requests a second in all slots. A lone tenant gets seven eighths
# of them, as the rest is spared for others (access/admission.hpp).
twice() {
  start stub "$every" "$bench" stub --slots "$slots" --prefill 200000 --decode-ms 45
  gateway_before "$url"
  until_answers "$url"
  local rate full double at_full at_double
  rate=$((slots * 1000 / 50))
  full=$("$bench" load --first --to "$url" --rate "$rate" --seconds 20)
  echo "overload: $rate requests/s offered: $full"
  double=$("$bench" load --first --to "$url" --rate $((2 * rate)) --seconds "$seconds") || failed=yes
  echo "overload: $((2 * rate)) requests/s offered: $double"
  at_full=$(goodput <<<"$full") at_double=$(goodput <<<"$double")
  awk -v full="$at_full" -v double="$at_double" 'BEGIN {
    printf "overload: goodput %.1f/s at capacity, %.1f/s at twice that: %.1f %%\n", full, double, 100 * double / full
    exit double < 0.9 * full}' || failed=yes
}

# Prompts of 1 kB take 50 ms, those of the flood (20 kB) a second; it sends five times what can be served.
flood() {
  printf '[tenants.default]\nweight = 1.0\n' >"$work/policy.toml"
  local modest flooding alone beside
  modest=$(build/release/tidemill keys create --keys "$work/keys.json" --tenant modest --name modest | grep -o '^tm-[A-Za-z0-9_-]*' | head -1)
  flooding=$(build/release/tidemill keys create --keys "$work/keys.json" --tenant flooding --name flooding | grep -o '^tm-[A-Za-z0-9_-]*' | head -1)
  start stub "$every" "$bench" stub --slots "$slots" --prefill 20000 --decode-ms 200
  gateway_before "$url" --keys "$work/keys.json" --policy "$work/policy.toml"
  until_answers "$url" "$modest"
  alone=$("$bench" load --first --to "$url" --rate 40 --key "$modest" --seconds "$seconds") || failed=yes
  echo "flood: one tenant alone: $alone"
  # The flood meets a tenant that is at work. One that begins in the middle of it has to wait until slots come free, and
  # at most as long as requests of the flood take; that is not what is measured here.
  "$bench" load --first --to "$url" --rate 40 --key "$modest" --seconds $((seconds + 1)) >"$work/modest.log" 2>&1 &
  local modest_load=$!
  pids+=("$modest_load")
  sleep 1
  "$bench" load --first --to "$url" --rate 100 --prompt 20000 --key "$flooding" --seconds "$seconds" >"$work/flood.log" 2>&1 || failed=yes
  wait "$modest_load" || failed=yes
  beside=$(cat "$work/modest.log")
  ! grep -q refused <<<"$beside" || failed=yes
  echo "flood: the same beside the flood: $beside"
  echo "flood: the flooding tenant: $(cat "$work/flood.log")"
  awk -v alone="$(p99 <<<"$alone")" -v beside="$(p99 <<<"$beside")" 'BEGIN {
    printf "flood: p99 time to first token %.1f ms alone, %.1f ms beside the flood: %+.1f %%\n", alone / 1e3, beside / 1e3, 100 * (beside / alone - 1)
    exit beside > 1.2 * alone}' || failed=yes
}

for part in "${parts[@]}"; do
  case "$part" in
    twice | flood) "$part" ;;
    *) echo "overload: unknown part '$part': use twice or flood" >&2; exit 2 ;;
  esac
done
[ "$failed" = no ] || { echo "overload: failed" >&2; exit 1; }
