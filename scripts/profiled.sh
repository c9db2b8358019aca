#!/usr/bin/env bash
# Builds build/profiled/tidemill, whose gateway is compiled by a profile of itself: what requests go through lies
# together, and what they do not out of the way. The profile is recorded here, in some seconds of load on loopback.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/profiled
export CCACHE_BASEDIR=${CCACHE_BASEDIR-$PWD} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR-true}
seconds=${PROFILE_SECONDS:-4}

build() {
  cmake --preset release -B "$folder" -DTIDEMILL_TESTS=OFF -DTIDEMILL_BENCH=ON -DTIDEMILL_PROFILE="$1" >"$folder/configure.log" 2>&1 ||
    { cat "$folder/configure.log" >&2; exit 1; }
  shift
  cmake --build "$folder" --parallel "${JOBS:-$(nproc)}" --target "$@"
}

# One question in each dialect, and what is refused.
ask() {
  local url=$1 body='{"model":"stub","max_tokens":16,"messages":[{"role":"user","content":"Why is the sky blue?"}]'
  local status=0
  post() { curl -s -o /dev/null --max-time 20 "$url$1" -H 'Authorization: Bearer none' -d "$2" || status=$?; }
  for ((i = 0; i < 200; ++i)); do
    post /v1/chat/completions "$body,\"stream\":true}"
    post /v1/messages "$body}"
    post /v1/completions '{"model":"stub","prompt":"Why is the sky blue?"}'
    post /v1/embeddings '{"model":"stub","input":"Why is the sky blue?"}'
    post /v1/chat/completions "$body"
    for path in /metrics /v1/models /health; do curl -s -o /dev/null --max-time 20 "$url$path" || status=$?; done
  done
  [ "$status" = 0 ] || { echo "profiled: a question was not answered (curl: $status)" >&2; exit 1; }
}

record() {
  local bench=$folder/bench_proxy all stub gateway
  all=0-$(($(nproc) - 1))
  start stub "$all" "$bench" stub
  stub=$url
  start gateway "$all" "$folder/tidemill" gateway --port 0 --gateway.io-threads 1 --backend "$stub" \
    --access-log "$work/access.jsonl" --session-store :memory:
  gateway=$url
  until_answers "$gateway"
  "$bench" load --to "$gateway" --rate 1000 --connections 64 --seconds "$seconds"
  "$bench" load --stream --to "$gateway" --rate 800 --connections 16 --seconds "$seconds"
  ask "$gateway"
  # Both write what they recorded as they end.
  kill "${pids[@]}"
  wait
}

mkdir -p "$folder"
find "$folder" -name '*.gcda' -delete
echo "profiled: building what records"
build record tidemill bench_proxy
echo "profiled: recording"
(
  source scripts/background.sh
  record
)
echo "profiled: building by what was recorded"
build use tidemill
echo "profiled: $folder/tidemill"
