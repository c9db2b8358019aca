// Prompts that are computed before they are asked for: --preload, and the prefix cache across a restart.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { Server, program } from './server.mjs';

const timeout = 300_000;
const system = 'def helper(x):\n    return x + 1\n'.repeat(40);

describe('warm prompts', { timeout }, () => {
  let folder;
  const file = (name) => path.join(folder, name);
  const ask = async (server, content, apiKey = 'unused') => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
    const messages = [{ role: 'system', content: system }, { role: 'user', content }];
    const answer = await client.chat.completions.create({ model: 'nano-coder', messages, max_tokens: 8, temperature: 0 });
    return { cached: answer.usage.prompt_tokens_details.cached_tokens, text: answer.choices[0].message.content, prompt: answer.usage.prompt_tokens };
  };

  before(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemill-warm-'));
    fs.mkdirSync(file('prompts'));
    fs.writeFileSync(file('prompts/helper.txt'), system);
  });
  after(() => fs.rmSync(folder, { recursive: true }));

  test('a preloaded prompt is cached for the first request, of every key', async () => {
    const server = await Server.start('--preload', file('prompts'), '--server.api-key', 'one,two');
    for (const key of ['one', 'two']) {
      const { cached, prompt } = await ask(server, 'x = 1\n', key);
      assert.ok(cached > prompt - 64, `${cached} of ${prompt}`);
    }
    await server.kill();
  });

  test('a prompt that cannot be preloaded stops the start', () => {
    const start = (name) =>
      spawnSync(program, ['serve', '--port', '0', '--preload', file(name)], { encoding: 'utf8', timeout });
    fs.writeFileSync(file('bad.json'), '{"messages": 3}');
    for (const [name, words] of [['bad.json', /bad\.json[\s\S]*messages/], ['absent', /absent/]]) {
      const run = start(name);
      assert.notEqual(run.status, 0);
      assert.match(run.stderr + run.stdout, words);
    }
  });

  test('prefixes outlive a restart, and a file that does not fit is ignored with a warning', async () => {
    const flags = ['--prefix-file', file('prefixes')];
    const first = await Server.start(...flags);
    const cold = await ask(first, 'y = 2\n');
    assert.equal(cold.cached, 0);
    assert.equal((await first.stop()).code, 0);
    assert.equal(fs.statSync(file('prefixes')).mode & 0o077, 0);

    const second = await Server.start(...flags);
    const warm = await ask(second, 'y = 2\n');
    assert.ok(warm.cached > cold.prompt - 17, `${warm.cached} of ${cold.prompt}`);
    assert.equal(warm.text, cold.text);
    await second.stop();

    const other = await Server.start(...flags, '--engine.kv-type', 'f32');
    assert.match(other.output, /not used/);
    assert.equal((await ask(other, 'y = 2\n')).cached, 0);
    await other.kill();

    // Another one's file: the server runs, and leaves it as it is.
    fs.writeFileSync(file('notes.txt'), 'years of work');
    const mistyped = await Server.start('--prefix-file', file('notes.txt'));
    assert.match(mistyped.output, /notes\.txt' is no file of prefixes: it is left as it is[\s\S]*another path/);
    await ask(mistyped, 'y = 2\n');
    assert.equal((await mistyped.stop()).code, 0);
    assert.equal(fs.readFileSync(file('notes.txt'), 'utf8'), 'years of work');

    fs.truncateSync(file('prefixes'), 5000);
    const third = await Server.start(...flags);
    assert.match(third.output, /not used[\s\S]*checksum/);
    assert.equal((await ask(third, 'y = 2\n')).cached, 0);
    await third.kill();
  });
});
