#!/usr/bin/env bash
# Tidemill beside llama.cpp (npm's node-llama-cpp) on the same files, in one run.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! tests/peers/node_modules/.package-lock.json -nt tests/peers/package-lock.json ]; then
  echo "peers: installing node-llama-cpp"
  (cd tests/peers && NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm ci --no-audit --no-fund --ignore-scripts --omit=optional --loglevel=error)
fi
echo "peers: greedy tokens"
node tests/peers/greedy.mjs
for type in q8_0 q4_0; do
  echo "peers: speed, $type"
  node tests/peers/speed.mjs llama-3.2-1b "$type"
done
