#!/usr/bin/env bash
# What grammars of random JSON Schemas allow, and what models say under them, against ajv: scripts/schemas.sh [SCHEMAS],
# four texts of each and as many outputs.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! tests/e2e/node_modules/.package-lock.json -nt tests/e2e/package-lock.json ]; then
  echo "schemas: installing the npm packages of the end-to-end tests"
  (cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error)
fi
export TIDEMILL_SCHEMAS=${1:-2500}
export TIDEMILL_OUTPUTS=$((TIDEMILL_SCHEMAS * 4)) TIDEMILL_PROGRAM=$PWD/build/release/tidemill
export TIDEMILL_SAMPLE_SCHEMA=build/release/sample_schema
node --test tests/e2e/json_schema.test.mjs tests/e2e/schema_outputs.test.mjs
