// What a model says under a JSON Schema, against ajv: random schemas, the built-in model (which knows nothing of JSON) and
// models of random weights. TIDEMILL_OUTPUTS is how many outputs are asked for (200). An output that max_tokens cut off
// is no claim of anything and is not counted.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import { Schemas } from './random_schema.mjs';
import { Server, program } from './server.mjs';

const wanted = Number(process.env.TIDEMILL_OUTPUTS ?? 200);
const choices = 4; // of each request
const timeout = 120_000 + wanted * 3000;  // sanitizers take their time

describe('outputs under random schemas', { timeout }, () => {
  let folder;
  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemill-outputs-'));
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  async function checkAll(server, count, from) {
    let valid = 0;
    let cut = 0;
    for (let seed = from; valid < count; ++seed) {
      const { schema } = new Schemas(seed).make();
      const ajv = new Ajv2020({ strict: false, validateFormats: true, logger: false });
      addFormats(ajv);
      const validate = ajv.compile(schema);
      const response = await fetch(`${server.url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({
          prompt: 'x = ', n: choices, seed, temperature: 1, max_tokens: 250,
          response_format: { type: 'json_schema', json_schema: { name: 'random', schema } },
        }),
      });
      const answer = await response.json();
      assert.equal(response.status, 200, `${JSON.stringify(answer)}\nunder ${JSON.stringify(schema)}`);
      for (const { text, finish_reason } of answer.choices) {
        if (finish_reason === 'length') {
          ++cut;
          continue;
        }
        assert.equal(finish_reason, 'stop');
        let value;
        assert.doesNotThrow(() => { value = JSON.parse(text); }, `${text}\nis no JSON, under ${JSON.stringify(schema)}`);
        assert.ok(validate(value), `${text}\nunder ${JSON.stringify(schema)}\n${JSON.stringify(validate.errors)}`);
        ++valid;
      }
      assert.ok(cut < 20 * (count + 10), 'nearly every output is cut off');
    }
    return { valid, cut };
  }

  test('of the built-in model validate', async (t) => {
    const server = await Server.start();
    const { valid, cut } = await checkAll(server, Math.ceil(wanted / 2), 1);
    t.diagnostic(`${valid} outputs valid, ${cut} cut off`);
    await server.kill();
  });

  test('of random weights validate', async (t) => {
    const model = path.join(folder, 'random.gguf');
    execFileSync(program, ['synth', 'qwen3-tiny', model, '--type', 'Q8_0', '--seed', '5']);
    const server = await Server.start('--model', model);
    const { valid, cut } = await checkAll(server, Math.ceil(wanted / 2), 1_000_000);
    t.diagnostic(`${valid} outputs valid, ${cut} cut off`);
    await server.kill();
  });
});

describe('forms beside large ones', { timeout }, () => {
  // Takes seconds to compile.
  const large = (name) => ({
    anyOf: Array.from({ length: 999 }, (_, k) => ({
      type: 'object',
      properties: Object.fromEntries(Array.from({ length: 10 }, (_, j) => [`${name}${k}_${j}`, { type: 'integer', minimum: k, maximum: k * 1000 + j }])),
    })),
  });
  const named = (schema) => ({ type: 'json_schema', json_schema: { name: 'x', schema } });
  const flag = (name) => named({ type: 'object', properties: { [name]: { type: 'boolean' } }, required: [name], additionalProperties: false });

  test('do not wait for them, whether their clients stay or go', async () => {
    const server = await Server.start();
    const order = [];
    const ask = async (what, response_format, signal) => {
      const response = await fetch(`${server.url}/v1/completions`, {
        method: 'POST', signal, body: JSON.stringify({ prompt: 'x', max_tokens: 8, response_format }),
      });
      assert.equal(response.status, 200, await response.text());
      order.push(what);
    };
    await ask('known', flag('known'));
    const gone = new AbortController();
    const gave_up = Array.from({ length: 20 }, (_, i) => ask('gone', named(large(`gone${i}`)), gone.signal).catch((error) => error.name));
    const larges = ['a', 'b', 'c'].map((name) => ask('large', named(large(name))));
    await Promise.all([ask('small', flag('known')), ask('small', flag('new')), ask('small', { type: 'json_object' })]);
    assert.ok(!order.includes('large') || order.lastIndexOf('small') < order.lastIndexOf('large'), order.join());
    gone.abort();
    await Promise.all([...gave_up, ...larges]);
    await server.kill();
  });
});
