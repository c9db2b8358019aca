#!/usr/bin/env bash
# Builds build/profiled/tidemill by profiles of itself, which are recorded here in some seconds of load on loopback: what
# a request to the gateway goes through is compiled by what it does, and then placed together, and what it does not go
# through out of the way. GCC does the first, llvm-bolt the second.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=build/profiled
whole=build/profiling # what CMake builds, which llvm-bolt takes apart; as deep as other builds, for ccache
bolt=/usr/lib/llvm-19/bin/llvm-bolt # by this name it finds its own runtime
export CCACHE_BASEDIR=${CCACHE_BASEDIR-$PWD} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR-true}
seconds=${PROFILE_SECONDS:-4}
[ -x "$bolt" ] || { echo "profiled: no $bolt: scripts/deps.sh profiled installs it" >&2; exit 1; }

# step NAME COMMAND...: what it says goes into a log of its own, and is shown if it fails.
step() {
  local log=$folder/$1.log
  shift
  "$@" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
}

build() {
  step configure cmake --preset release -B "$whole" -DTIDEMILL_TESTS=OFF -DTIDEMILL_BENCH=ON -DTIDEMILL_PROFILE="$1"
  shift
  cmake --build "$whole" --parallel "${JOBS:-$(nproc)}" --target "$@"
}

# One question in each dialect, and what is refused.
ask() {
  local url=$1 body='{"model":"stub","max_tokens":16,"messages":[{"role":"user","content":"Why is the sky blue?"}]'
  local status=0
  post() { curl -s --noproxy '*' -o /dev/null --max-time 20 "$url$1" -H 'Authorization: Bearer none' -d "$2" || status=$?; }
  for ((i = 0; i < 200; ++i)); do
    post /v1/chat/completions "$body,\"stream\":true}"
    post /v1/messages "$body}"
    post /v1/completions '{"model":"stub","prompt":"Why is the sky blue?"}'
    post /v1/embeddings '{"model":"stub","input":"Why is the sky blue?"}'
    post /v1/chat/completions "$body"
    for path in /metrics /v1/models /health; do curl -s --noproxy '*' -o /dev/null --max-time 20 "$url$path" || status=$?; done
  done
  [ "$status" = 0 ] || { echo "profiled: a question was not answered (curl: $status)" >&2; exit 1; }
}

# record PROGRAM: has it serve as a gateway, and end, by which it writes what it recorded.
record() (
  source scripts/background.sh
  bench=$whole/bench_proxy
  start stub "$every" "$bench" stub
  stub=$url
  start gateway "$every" "$1" gateway --port 0 --gateway.io-threads 1 --backend "$stub" \
    --access-log "$work/access.jsonl" --session-store :memory:
  gateway=$url
  until_answers "$gateway"
  "$bench" load --to "$gateway" --rate 1000 --connections 64 --seconds "$seconds"
  "$bench" load --stream --to "$gateway" --rate 800 --connections 16 --seconds "$seconds"
  ask "$gateway"
  kill "${pids[@]}"
  wait
)

# forbid_code_on_stacks FILE: llvm-bolt has taken the header that says so for a segment of its own, or else leaves a file
# that strip breaks. The header of the GNU properties, which a note repeats, becomes that one again.
forbid_code_on_stacks() {
  python3 - "$1" <<'PY'
import struct, sys
PT_GNU_STACK, PT_GNU_PROPERTY, READ_WRITE = 0x6474E551, 0x6474E553, 6
with open(sys.argv[1], 'r+b') as file:
    elf = file.read(64)
    first, (size, count) = struct.unpack_from('<Q', elf, 32)[0], struct.unpack_from('<HH', elf, 54)
    for at in range(first, first + size * count, size):
        file.seek(at)
        if struct.unpack('<I', file.read(4))[0] == PT_GNU_PROPERTY:
            file.seek(at)
            file.write(struct.pack('<IIQQQQQQ', PT_GNU_STACK, READ_WRITE, 0, 0, 0, 0, 0, 16))
            break
PY
  readelf -lW "$1" | grep -q 'GNU_STACK.* RW ' || { echo "profiled: stacks of $1 could hold code" >&2; exit 1; }
}

# place FROM TO: by a profile of FROM itself, since compiling by the first one has moved everything.
place() {
  local counting=$folder/counting counts=$PWD/$folder/counts
  rm -f "$counts"
  step instrument "$bolt" "$1" -instrument -instrumentation-file="$counts" -o "$counting"
  record "$counting"
  [ -s "$counts" ] || { echo "profiled: $counting left no profile" >&2; exit 1; }
  step place "$bolt" "$1" -data "$counts" -reorder-blocks=ext-tsp -reorder-functions=cdsort -split-functions \
    -split-all-cold -split-eh -icf=1 -jump-tables=move -plt=hot -use-gnu-stack -o "$2.partial"
  forbid_code_on_stacks "$2.partial"
  mv "$2.partial" "$2"
  rm "$counting"
}

mkdir -p "$folder"
exec 9>"$folder/lock"
flock -n 9 || { echo "profiled: another run is at it, or what one that was killed has left" >&2; exit 1; }
[ ! -d "$whole" ] || find "$whole" -name '*.gcda' -delete
echo "profiled: building what records"
build record tidemill bench_proxy
echo "profiled: recording"
record "$whole/tidemill"
echo "profiled: building by what was recorded"
build use tidemill
echo "profiled: recording again"
place "$whole/tidemill" "$folder/tidemill"
echo "profiled: $folder/tidemill"
