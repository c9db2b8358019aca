#!/usr/bin/env bash
# What grammars of random JSON Schemas allow, against ajv: scripts/schemas.sh [SCHEMAS], four texts of each.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! tests/e2e/node_modules/.package-lock.json -nt tests/e2e/package-lock.json ]; then
  echo "schemas: installing the npm packages of the end-to-end tests"
  (cd tests/e2e && npm ci --no-audit --no-fund --loglevel=error)
fi
TIDEMILL_SCHEMAS=${1:-2500} TIDEMILL_SAMPLE_SCHEMA=build/release/sample_schema node --test tests/e2e/json_schema.test.mjs
