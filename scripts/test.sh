#!/usr/bin/env bash
# Runs the suite of one preset that is already built: scripts/test.sh PRESET
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
if [ -f tests/e2e/package-lock.json ] && [ ! tests/e2e/node_modules/.package-lock.json -nt tests/e2e/package-lock.json ]; then
  echo "test: installing the npm clients of the end-to-end tests"
  (cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error)
fi
ctest --preset "$preset" --parallel "${JOBS:-$(nproc)}"
