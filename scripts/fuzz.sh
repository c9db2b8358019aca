#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a time: scripts/fuzz.sh SECONDS [TARGET...]
# The corpus grows in build/fuzz-corpus; a finding leaves its input in build/fuzz-findings and fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(gguf safetensors folder tokenizer template request http output grammar schema)
data=${TIDEMILL_DATA:-../shared/data}

scripts/build.sh fuzz "${targets[@]/#/fuzz_}"

seeds=tests/fuzz/seeds
seed() {
  local corpus=build/fuzz-corpus/$1
  mkdir -p "$corpus" build/fuzz-findings
  case "$1" in
    gguf) build/fuzz/fuzz_gguf_seeds "$corpus" ;;
    tokenizer) cp models/README.md README.zh-CN.md CONTRIBUTING.md "$corpus/" ;;
    template)
      cp $seeds/*.jinja "$corpus/"
      if [ -d "$data/templates" ]; then cp "$data"/templates/*.jinja "$corpus/"; fi ;;
    safetensors | folder | request | http | output | grammar | schema) cp $seeds/*."$1" "$corpus/" ;;
  esac
}

if [ -d "$data/tokenizers" ]; then
  export TIDEMILL_FUZZ_VOCABULARIES=$data/tokenizers/ggml-vocab-gpt-2.gguf:$data/tokenizers/ggml-vocab-qwen2.gguf
  TIDEMILL_FUZZ_VOCABULARIES+=:$data/tokenizers/ggml-vocab-llama-spm.gguf:$data/tokenizers/ggml-vocab-deepseek-coder.gguf
  TIDEMILL_FUZZ_VOCABULARIES+=:$data/tokenizers/ggml-vocab-bert-bge.gguf
fi
for target in "${targets[@]}"; do
  seed "$target"
  echo "fuzz: $target for $seconds s"
  dictionary=()
  [ ! -f "$seeds/$target.dict" ] || dictionary=(-dict="$seeds/$target.dict")
  length=16384
  if [ "$target" = tokenizer ]; then length=512; fi # every input is encoded and decoded several times
  if [ "$target" = grammar ] || [ "$target" = schema ]; then length=1024; fi # what is longer is not another kind of grammar
  if [ "$target" = gguf ]; then length=32768; fi    # the seeds that are packed have 18 KB
  build/fuzz/fuzz_"$target" "${dictionary[@]}" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -max_len=$length -print_final_stats=1 \
    -artifact_prefix=build/fuzz-findings/"$target"- build/fuzz-corpus/"$target" >build/fuzz-"$target".log 2>&1 ||
    { tail -40 build/fuzz-"$target".log; exit 1; }
  grep -E 'number_of_executed_units|DONE' build/fuzz-"$target".log
done
