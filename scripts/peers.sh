#!/usr/bin/env bash
# Tidemill beside llama.cpp (npm's node-llama-cpp) on the same files, in one run.
#   scripts/peers.sh          greedy tokens, embeddings, scores and speed
#   scripts/peers.sh noise    what is left of the speed beside busy processes
#   scripts/peers.sh avx2     speed of both on AVX2 alone
#   scripts/peers.sh floats   speed with weights of F16 and BF16
#   scripts/peers.sh mixtures speed of mixtures of experts, some layers of each
#   scripts/peers.sh streams  Tidemill's HTTP server under 16 streams
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! tests/peers/node_modules/.package-lock.json -nt tests/peers/package-lock.json ]; then
  echo "peers: installing node-llama-cpp"
  # Not npm ci: npm 11 refuses a lock file in which packages for other platforms are left out.
  (cd tests/peers && NODE_LLAMA_CPP_SKIP_DOWNLOAD=true npm install --no-save --no-audit --no-fund --ignore-scripts --omit=optional --loglevel=error)
fi
if [ "${1:-}" = noise ]; then
  for type in q8_0 q4_0; do
    echo "peers: beside busy processes, $type"
    node tests/peers/noise.mjs llama-3.2-1b "$type"
  done
  exit
fi
if [ "${1:-}" = streams ]; then
  node tests/peers/streams.mjs llama-3.2-1b q4_0
  exit
fi
if [ "${1:-}" = floats ]; then
  for type in bf16 f16; do
    echo "peers: speed, $type"
    node tests/peers/speed.mjs llama-3.2-1b "$type"
  done
  exit
fi
if [ "${1:-}" = mixtures ]; then
  for mixture in qwen3-30b-a3b:4 mixtral-8x7b:2 gpt-oss-20b:4; do
    for type in q8_0 q4_0 mxfp4 q4_k; do
      # The widths of gpt-oss are no multiples of 256, as K-quants want them.
      [ "$mixture $type" != "gpt-oss-20b:4 q4_k" ] || continue
      echo "peers: speed, $mixture layers, $type"
      node tests/peers/speed.mjs "$mixture" "$type" 3 16
    done
  done
  exit
fi
if [ "${1:-}" = avx2 ]; then
  # llama.cpp takes the best of the libraries that lie beside it: a copy of the package with that for AVX2 alone.
  copy=build/peers-avx2
  rm -rf "$copy"
  mkdir -p "$copy/node_modules"
  cp -r tests/peers/node_modules/. "$copy/node_modules"
  cp tests/peers/*.mjs tests/peers/package.json "$copy"
  find "$copy/node_modules/@node-llama-cpp" -name 'libggml-cpu-*' ! -name 'libggml-cpu-haswell.so' -delete
  for type in q8_0 q4_0; do
    echo "peers: AVX2 alone, $type"
    TIDEMILL_ISA=avx2 node "$copy/speed.mjs" llama-3.2-1b "$type"
  done
  exit
fi
echo "peers: greedy tokens"
node tests/peers/greedy.mjs
echo "peers: embeddings and scores"
node tests/peers/encode.mjs
for type in q8_0 q4_0; do
  echo "peers: speed, $type"
  node tests/peers/speed.mjs llama-3.2-1b "$type"
done
