# Sourced by scripts that measure servers: starts programs in the background, and ends them with the script.
work=$(mktemp -d)
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
ulimit -n "$(ulimit -Hn)"

program=${TIDEMILL_PROGRAM:-build/release/tidemill} # what is measured
every=$(taskset -pc $$ | sed 's/.*: //')             # processors that this may use
# What runs here is configured by its arguments alone.
unset $(compgen -e TIDEMILL_)

# start NAME PROCESSORS COMMAND...: runs it on those processors; `url` is what it says it listens at, `pid` its process.
start() {
  local name=$1 processors=$2 tries=0
  shift 2
  taskset -c "$processors" env -C "$work" "$(realpath "$(command -v "$1")")" "${@:2}" >"$work/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  until url=$(grep -som1 'http://127[0-9.:]*' "$work/$name.log"); do
    tries=$((tries + 1))
    [ "$tries" -lt 500 ] || { echo "$name did not start:" >&2; cat "$work/$name.log" >&2; exit 1; }
    sleep 0.02
  done
}

# until_answers URL [KEY]: a question to the stub gets its answer.
until_answers() {
  local tries=0 status
  until status=$(curl -s --noproxy '*' -o /dev/null -w '%{http_code}' "$1/v1/chat/completions" -H "Authorization: Bearer ${2:-none}" \
    -d '{"model":"stub","messages":[{"role":"user","content":"p"}]}') && [ "$status" = 200 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { echo "no good answer through $1: $status" >&2; exit 1; }
    sleep 0.05
  done
}

# processes PID: it and its children.
processes() { echo "$1"; pgrep -P "$1" || true; }

# memory PID: resident kilobytes.
memory() {
  local sum=0 one
  for one in $(processes "$1"); do sum=$((sum + $(awk '/^VmRSS/ {print $2}' "/proc/$one/status"))); done
  echo "$sum"
}

# spent PID: hundredths of a second of processor time.
spent() {
  local sum=0 one
  for one in $(processes "$1"); do sum=$((sum + $(awk '{print $14 + $15}' "/proc/$one/stat"))); done
  echo "$sum"
}
