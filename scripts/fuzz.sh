#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a time: scripts/fuzz.sh SECONDS [TARGET...]
# The corpus grows in build/fuzz-corpus; a finding leaves its input in build/fuzz-findings and fails the script.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=$1
shift
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(gguf tokenizer template request)
data=${TIDEMILL_DATA:-../shared/data}

scripts/build.sh fuzz "${targets[@]/#/fuzz_}"

seed() {
  local corpus=build/fuzz-corpus/$1
  mkdir -p "$corpus" build/fuzz-findings
  case "$1" in
    gguf)
      [ -x build/release/tidemill ] || return 0
      for shape in llama-tiny qwen2-tiny qwen3-tiny; do
        [ -f "$corpus/$shape" ] || build/release/tidemill synth "$shape" "$corpus/$shape" --type q8_0
      done ;;
    tokenizer) cp models/README.md CONTRIBUTING.md "$corpus/" ;;
    template) cp tests/fuzz/seeds/*.jinja "$corpus/" 2>/dev/null || true
      [ -d "$data/templates" ] && cp "$data"/templates/*.jinja "$corpus/" || true ;;
    request) cp tests/fuzz/seeds/*.request "$corpus/" 2>/dev/null || true ;;
  esac
}

if [ -d "$data/tokenizers" ]; then
  export TIDEMILL_FUZZ_VOCABULARIES=$data/tokenizers/ggml-vocab-gpt-2.gguf:$data/tokenizers/ggml-vocab-qwen2.gguf
  TIDEMILL_FUZZ_VOCABULARIES+=:$data/tokenizers/ggml-vocab-llama-spm.gguf:$data/tokenizers/ggml-vocab-deepseek-coder.gguf
fi
for target in "${targets[@]}"; do
  seed "$target"
  echo "fuzz: $target for $seconds s"
  build/fuzz/fuzz_"$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
    -artifact_prefix=build/fuzz-findings/"$target"- build/fuzz-corpus/"$target" >build/fuzz-"$target".log 2>&1 ||
    { tail -40 build/fuzz-"$target".log; exit 1; }
  grep -E 'number_of_executed_units|DONE' build/fuzz-"$target".log
done
