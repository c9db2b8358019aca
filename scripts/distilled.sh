#!/usr/bin/env bash
# Distils a student with 23 % of MODEL's parameters from Python that is on this machine, and judges both on TEXT, which the
# student never sees: scripts/distilled.sh MODEL TEXT. docs/distillation.md has what came of it.
#
#   PYTHON    whose standard library (PSF licence) is learned from, with PACKAGES beside it
#   PACKAGES  names in its site-packages, of licences that permit it (BSD, MIT, ISC, Apache-2.0, PSF)
#   TOKENS    to learn from, repeats included
#   MORE      to learn from after that, going on from there
#   WRITTEN   tokens that the teacher writes itself, to learn from as well
#   OUT       the student's file
#   LESSONS   where what the teacher says stays, for a second student
set -euo pipefail
cd "$(dirname "$0")/.."
model=$1
held_out=$2
python=${PYTHON:-python3}
tokens=${TOKENS:-20000000}
more=${MORE:-16000000}
written=${WRITTEN:-2000000}
out=${OUT:-build/nano-student.gguf}
keep=${LESSONS:-$out.lessons}

library=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
# The library without its tables of characters and its manual, and every third of its tests; only files in ASCII, which is
# what nano-coder has seen.
{
  find "$library" -name '*.py' -not -path '*/site-packages/*' -not -path '*/dist-packages/*' -not -path '*/test/*' \
    -not -path '*/encodings/*' -not -path '*/pydoc_data/*' | sort
  find "$library/test" -name '*.py' 2>/dev/null | sort | awk 'NR % 3 == 0'
  for package in ${PACKAGES:-}; do
    find "$packages/$package" -name '*.py' | sort
  done
} | LC_ALL=C xargs -d '\n' grep -LP '[\x80-\xFF]' >"$out.files"
mapfile -t files <"$out.files"
echo "distilled: ${#files[@]} files of Python"
# Eight bits answer sooner and much the same.
build/release/tidemill quantize "$model" "$out.teacher" --type int8
distill() {
  build/release/tidemill distill --teacher "$out.teacher" --student 23% --text "${files[@]}" --held-out "$held_out" \
    --write "$written" --lessons "$keep" "$@"
}
distill --tokens "$tokens" -o "$out.first"
distill --tokens "$more" --from "$out.first" --rate 0.6 -o "$out"
build/release/tidemill eval "$model" --text "$held_out" --window 256
build/release/tidemill eval "$out" --text "$held_out" --window 256 --against "$model"
