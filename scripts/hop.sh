#!/usr/bin/env bash
# What the hop through the gateway costs, beside nginx as a plain reverse proxy, in one run on this machine:
#
#   scripts/hop.sh            requests a second on one core, latency, relayed tokens, 9,900 open streams
#   scripts/hop.sh PART...    only these parts: rate, latency, tokens, streams
#   TIDEMILL_PROGRAM=build/profiled/tidemill scripts/hop.sh    of the gateway that `make profiled` has built
#
# Measured in turn, HOP_ROUNDS (3) times: the stub without a hop, wire (a bare relay of the same HTTP code), the gateway
# with its access log, and nginx without one. Each proxy has processor 0 for itself; load and stub share processor 1.
# Everything is on loopback, bounded in time, and ends with the script.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(rate latency tokens streams)
bench=build/release/bench_proxy
seconds=${HOP_SECONDS:-4}
rounds=${HOP_ROUNDS:-3}
streams=${HOP_STREAMS:-9900}
source scripts/background.sh

start stub 1 "$bench" stub
stub=$url stub_pid=$pid
start wire 0 "$bench" proxy --to "$stub"
wire=$url wire_pid=$pid
start gateway 0 "$program" gateway --port 0 --gateway.io-threads 1 --backend "$stub" --access-log "$work/access.jsonl" \
  --session-store :memory: --gateway.max-open 20000
gateway=$url gateway_pid=$pid

free_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx-error.log;
worker_rlimit_nofile $(ulimit -n);
events { worker_connections $(($(ulimit -n) - 40)); }
http {
  access_log off;
  client_body_temp_path $work/body; proxy_temp_path $work/proxy; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u;
  scgi_temp_path $work/s;
  upstream stub { server ${stub#http://}; keepalive 512; }
  server {
    listen 127.0.0.1:$free_port backlog=4096;
    keepalive_requests 1000000000;
    location / {
      proxy_pass http://stub;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_read_timeout 3600s;
    }
  }
}
CONF
taskset -c 0 nginx -c "$work/nginx.conf" -p "$work" &
nginx_pid=$!
pids+=("$nginx_pid")
nginx=http://127.0.0.1:$free_port

for proxy in "$wire" "$gateway" "$nginx"; do until_answers "$proxy"; done

cat >"$work/post.lua" <<'LUA'
wrk.method = "POST"
wrk.body = '{"model":"stub","stream":false,"messages":[{"role":"user","content":"' .. string.rep("p", 900) .. '"}]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer sk-0123456789abcdef0123"
LUA

proxies=("wire $wire $wire_pid" "gateway $gateway $gateway_pid" "nginx $nginx $nginx_pid")
everyone=("stub $stub $stub_pid" "${proxies[@]}")

rate() {
  local name=$1 url=$2 pid=$3 connections=$4 before after
  before=$(spent "$pid")
  taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$work/post.lua" "$url/v1/chat/completions" >"$work/wrk.log"
  after=$(spent "$pid")
  awk -v head="rate: $name, $connections connections:" -v spent=$((after - before)) '
    /requests in/ {count = $1}
    /50%|99%/ {latency = latency sprintf(", %s within %s", $1, $2)}
    /Requests\/sec/ {rate = $2}
    /Non-2xx|Socket errors/ {faults = faults "; " $0}
    END {printf "%s %d requests/s%s; %.1f us of processor time a request%s\n", head, rate, latency, spent * 1e4 / count, faults}' "$work/wrk.log"
}

hold() {
  local name=$1 url=$2 pid=$3 before after tries=0
  before=$(memory "$pid")
  rm -f "$work/hold.log"
  taskset -c 1 "$bench" hold --to "$url" --connections "$streams" >"$work/hold.log" 2>&1 &
  local holder=$!
  pids+=("$holder")
  until grep -qs 'streams open' "$work/hold.log"; do
    tries=$((tries + 1))
    [ "$tries" -lt 1200 ] || { echo "hop: the streams did not open" >&2; exit 1; }
    sleep 0.05
  done
  after=$(memory "$pid")
  echo "streams: $name: $(cat "$work/hold.log"); resident $((before / 1024)) MB before, $((after / 1024)) MB with them, $(((after - before) * 1024 / streams)) bytes a stream"
  kill "$holder"
  wait "$holder" 2>/dev/null || true
}

for part in "${parts[@]}"; do
  case "$part" in
    rate)
      for ((round = 0; round < rounds; ++round)); do
        for who in "${everyone[@]}"; do rate $who 64; done
      done ;;
    latency)
      for ((round = 0; round < rounds; ++round)); do
        for who in "${everyone[@]}"; do
          set -- $who
          echo "latency: $1 at 2000 requests/s: $(taskset -c 1 "$bench" load --to "$2" --rate 2000 --seconds "$seconds")"
        done
      done ;;
    tokens)
      for ((round = 0; round < rounds; ++round)); do
        for who in "${everyone[@]}"; do
          set -- $who
          before=$(spent "$3")
          seen=$(taskset -c 1 "$bench" load --stream --to "$2" --rate 800 --connections 16 --seconds "$seconds")
          echo "tokens: $1, 16 streams, 800 tokens/s: $seen; $(awk -v spent=$(($(spent "$3") - before)) '{printf "%.1f us of processor time a token", spent * 1e4 / $1}' <<<"$seen")"
        done
      done ;;
    streams) for who in "${proxies[@]}"; do hold $who; done ;;
    *) echo "hop: unknown part '$part': use rate, latency, tokens or streams" >&2; exit 2 ;;
  esac
done
