#!/usr/bin/env bash
# What the hop through a proxy costs, Tidemill's wire beside nginx, in one run on this machine:
#
#   scripts/hop.sh            requests a second on one core, added latency, relayed tokens, 10,000 open streams
#   scripts/hop.sh FIRST...   only these parts: rate, latency, tokens, streams
#
# Each proxy has processor 0 for itself; load and stub share processor 1. Everything is on loopback, bounded in time, and
# ends with the script.
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(rate latency tokens streams)
bench=build/release/bench_proxy
seconds=${HOP_SECONDS:-5}
work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
ulimit -n "$(ulimit -Hn)"

# start NAME PROCESSOR COMMAND...: runs it in the background and waits for the URL that it prints.
start() {
  local name=$1 processor=$2
  shift 2
  taskset -c "$processor" "$@" >"$work/$name.log" 2>&1 &
  pids+=($!)
  local tries=0
  until url=$(grep -m1 '^http' "$work/$name.log"); do
    tries=$((tries + 1))
    [ "$tries" -lt 500 ] || { echo "hop: $name did not start:" >&2; cat "$work/$name.log" >&2; exit 1; }
    sleep 0.02
  done
}

start stub 1 "$bench" stub
stub=$url
start proxy 0 "$bench" proxy --to "$stub"
ours=$url
ours_pid=${pids[-1]}

free_port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$work/nginx.conf" <<CONF
worker_processes 1;
daemon off;
pid $work/nginx.pid;
error_log $work/nginx-error.log;
worker_rlimit_nofile 60000;
events { worker_connections 30000; }
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
theirs=http://127.0.0.1:$free_port
until curl -s -o /dev/null "$theirs/v1/chat/completions" -X POST; do sleep 0.05; done

cat >"$work/post.lua" <<'LUA'
wrk.method = "POST"
wrk.body = '{"model":"stub","messages":[{"role":"user","content":"' .. string.rep("p", 512) .. '"}]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer sk-0123456789abcdef0123"
LUA

# memory PID: resident kilobytes, of the process and its children.
memory() {
  local all=("$1")
  mapfile -t -O 1 all < <(pgrep -P "$1" || true)
  local sum=0 one
  for one in "${all[@]}"; do sum=$((sum + $(awk '/^VmRSS/ {print $2}' "/proc/$one/status"))); done
  echo "$sum"
}

for part in "${parts[@]}"; do
  case "$part" in
    rate)
      for who in "stub $stub" "tidemill $ours" "nginx $theirs"; do
        set -- $who
        for connections in 16 64; do
          echo "rate: $1, $connections connections: $(taskset -c 1 wrk -t1 -c"$connections" -d"${seconds}s" --latency -s "$work/post.lua" \
            "$2/v1/chat/completions" | awk '/50%|99%/ {printf "%s %s  ", $1, $2} /Requests\/sec/ {printf "%s requests/s", $2} /Non-2xx/ {printf "  %s", $0}')"
        done
      done ;;
    latency)
      for rate in 2000 5000; do
        for who in "stub $stub" "tidemill $ours" "nginx $theirs"; do
          set -- $who
          echo "latency: $1 at $rate requests/s: $(taskset -c 1 "$bench" load --to "$2/v1/chat/completions" --rate "$rate" --connections 16 --seconds "$seconds")"
        done
      done ;;
    tokens)
      for who in "stub $stub" "tidemill $ours" "nginx $theirs"; do
        set -- $who
        echo "tokens: $1, 64 streams, 3200 tokens/s: $(taskset -c 1 "$bench" load --stream --to "$2/tokens" --rate 3200 --connections 64 --seconds "$seconds")"
      done ;;
    streams)
      for who in "tidemill $ours $ours_pid" "nginx $theirs $nginx_pid"; do
        set -- $who
        before=$(memory "$3")
        taskset -c 1 "$bench" hold --to "$2/silence" --connections 10000 >"$work/hold.log" 2>&1 &
        holder=$!
        pids+=("$holder")
        tries=0
        until grep -q 'streams open' "$work/hold.log"; do
          tries=$((tries + 1))
          [ "$tries" -lt 1200 ] || { echo "hop: the streams did not open" >&2; exit 1; }
          sleep 0.05
        done
        after=$(memory "$3")
        echo "streams: $1: $(cat "$work/hold.log"); resident $((before / 1024)) MB before, $((after / 1024)) MB with them, $(((after - before) * 1024 / 10000)) bytes a stream"
        kill "$holder"
        wait "$holder" 2>/dev/null || true
      done ;;
    *) echo "hop: unknown part '$part': use rate, latency, tokens or streams" >&2; exit 2 ;;
  esac
done
