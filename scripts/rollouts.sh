#!/usr/bin/env bash
# The operating characteristics of canaries: scripts/rollouts.sh [ROLLOUTS]
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
scripts/build.sh release bench_rollouts
build/release/bench_rollouts "${1:-1000}"
