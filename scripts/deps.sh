#!/usr/bin/env bash
# Installs the Debian packages that building and testing Tidemill need, if any are missing. Quick when none is.
#
#   scripts/deps.sh build   compiler, CMake, curl, libraries (the tests' among them: configuring a preset looks for all)
#   scripts/deps.sh test    the above, a Redis for the session store's tests, and for the end-to-end tests openssl, which
#                           makes certificates, and Node.js
#   scripts/deps.sh lint    clang-format and clang-tidy
#   scripts/deps.sh fuzz    clang with libFuzzer
#   scripts/deps.sh hop     nginx and wrk, to measure beside
#   scripts/deps.sh profiled  the build list, and llvm-bolt, which places code by a profile, with Python to mend its headers
#   scripts/deps.sh distill libtorch, and a fast BLAS for it: what `tidemill distill` and `tidemill train` need beside the
#                           build list; nothing else does
set -euo pipefail

build=(g++ cmake ninja-build ccache make pkg-config
       libboost1.81-dev libboost-json1.81-dev libssl-dev libspdlog-dev libfmt-dev libcli11-dev libtomlplusplus-dev
       libutf8proc-dev libxxhash-dev libgtest-dev libpcre2-dev libsqlite3-dev libhiredis-dev libeigen3-dev)
tests=(redis-server openssl)
lint=(clang-format clang-tidy)
fuzz=(clang libclang-rt-14-dev)
hop=(nginx wrk python3)
profiled=(bolt-19 python3)
distill=(libtorch-dev libopenblas0-openmp)

wanted=("${build[@]}")
need_node=no
case "${1:-build}" in
  build) ;;
  test) wanted+=("${tests[@]}"); need_node=yes ;;
  lint) wanted+=("${lint[@]}") ;;
  fuzz) wanted+=("${fuzz[@]}") ;;
  hop) wanted+=("${hop[@]}") ;;
  profiled) wanted+=("${profiled[@]}") ;;
  distill) wanted+=("${distill[@]}") ;;
  *) echo "deps: unknown set '$1': use build, test, lint, fuzz, hop, profiled or distill" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
# `make run` prints a curl line to paste.
command -v curl >/dev/null || missing+=(curl)
# Node.js may come from elsewhere than Debian; any version from 18 on will do for the client tests.
if [ "$need_node" = yes ]; then
  major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/' || true)
  [ "${major:-0}" -ge 18 ] || missing+=(nodejs)
  command -v npm >/dev/null || missing+=(npm)
fi

[ "${#missing[@]}" -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "deps: this script installs Debian packages; on another system install the counterparts of: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "deps: not root and no sudo; as root, run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  sudo=(sudo)
fi
echo "deps: installing ${missing[*]}"
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
