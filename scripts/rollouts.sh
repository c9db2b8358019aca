#!/usr/bin/env bash
# The operating characteristics of canaries and of the choice of models: scripts/rollouts.sh [ROLLOUTS]
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
scripts/build.sh release bench_rollouts bench_model_choice
build/release/bench_rollouts "${1:-1000}"
build/release/bench_model_choice 20
