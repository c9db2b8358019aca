#!/usr/bin/env bash
# clang-format on every source; clang-tidy on each batch of sources since whose last clean run it, a header or the checks
# changed.
set -euo pipefail
cd "$(dirname "$0")/.."

echo "lint: clang-format"
git ls-files '*.cpp' '*.hpp' | xargs clang-format --dry-run --Werror

echo "lint: shell scripts"
git ls-files 'scripts/*.sh' '.ci/*' | xargs -n 1 bash -n

# C++20 keeps only the last temporary of a loop's range: what `state()->parts()` holds may be gone in the first turn.
echo "lint: loops over the inside of a temporary"
if git grep -nE '^ *for \([^;]*[^:]:[^:][^;]*\(\)->' -- '*.cpp' '*.hpp'; then
  echo "lint: name what owns the parts before the loop over them" >&2
  exit 1
fi

echo "lint: the table of rooms"
diff <(sed -nE 's/^set\(TIDEMILL_ROOM_([a-z]+) "?([^")]*)"?\)$/\1: \2/p' cmake/Rooms.cmake) \
  <(sed -nE 's/^\| `([a-z]+)` \|.*\| ([^|]*) \|$/\1: \2/p' docs/architecture.md | sed 's/–//; s/,//g') ||
  { echo "lint: docs/architecture.md and cmake/Rooms.cmake differ in what rooms may use" >&2; exit 1; }

# A database of its own, whatever presets were configured with. Its name is a word to clang's analyzer: in a batch whose
# path has it, the sources are looked at as sources are, and only they.
database=build/lint/UnifiedSource
mkdir -p "$database"
cmake --preset release -B "$database" -DTIDEMILL_UNITY=ON >"$database/configure.log" 2>&1 || { cat "$database/configure.log" >&2; exit 1; }
echo "lint: the fuzz targets compile"
includes=$(printf -- '-I%s ' "$database"/rooms/*)
git ls-files 'tests/fuzz/*.cpp' | xargs -P "${JOBS:-$(nproc)}" -I {} sh -c "g++ -std=c++20 -fsyntax-only $includes -Itests {}"
echo "lint: clang-tidy"
# The sources of src/ as the release preset compiles them, in batches: what they include is read once for each batch.
headers=$(git ls-files '*.hpp' '*.clang-tidy' | sort | xargs sha256sum | sha256sum | cut -c1-16)
check() {
  local stamp log
  stamp="build/lint/$( (echo "$1"; sed -nE 's/^#include "(.*\.cpp)"$/\1/p' "$2" | xargs -r cat "$2") | sha256sum | cut -c1-32)"
  [ -f "$stamp" ] && return 0
  log=$(mktemp)
  if clang-tidy -p "$3" --quiet "$2" >"$log" 2>&1; then
    touch "$stamp"
    rm -f "$log"
  else
    cat "$log"
    rm -f "$log"
    return 1
  fi
}
export -f check
sed -nE 's/^ *"file": "(.*)",?$/\1/p' "$database/compile_commands.json" | grep -E "^$PWD/(src/.*\.cpp|$database/src/.*\.cxx)$" |
  xargs -P "${JOBS:-$(nproc)}" -I {} bash -c "check $headers {} $database"
echo "lint: clean"
