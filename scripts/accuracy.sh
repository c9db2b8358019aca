#!/usr/bin/env bash
# What quantised arithmetic costs, beside llama.cpp's: scripts/accuracy.sh TEXT. TEXT should be unknown to the model.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! tests/peers/node_modules/.package-lock.json -nt tests/peers/package-lock.json ]; then
  echo "accuracy: installing node-llama-cpp"
  (cd tests/peers && NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm ci --no-audit --no-fund --ignore-scripts --omit=optional --loglevel=error)
fi
cmake --preset release -DTIDEMILL_BENCH=ON >/dev/null
scripts/build.sh release bench_accuracy bench_requantize tidemill
models=()
for type in q8_0 q4_0 q4_k; do
  models+=("models/nano-coder.gguf:$type:$1" "qwen3-tiny:$type:0" "qwen3-tiny:$type:4")
done
node tests/peers/accuracy.mjs "${models[@]}"
