// The Responses API of the official `openai` client against `tidemill serve` with the built-in model.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { Server, program } from './server.mjs';

const asked = { model: 'nano-coder', temperature: 0, max_output_tokens: 24, input: 'def fibonacci(n):\n    """Return the n-th number."""\n' };
const timeout = 300_000;
const connect = (server) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });

describe('responses', { timeout }, () => {
  let server;
  let client;

  before(async () => {
    server = await Server.start();
    client = connect(server);
  });
  after(() => server.kill());

  test('come whole and streamed alike', async () => {
    const whole = await client.responses.create(asked);
    assert.equal(whole.object, 'response');
    assert.equal(whole.status, 'incomplete');
    assert.equal(whole.incomplete_details.reason, 'max_output_tokens');
    assert.ok(whole.output_text.length > 0);
    assert.equal(whole.usage.output_tokens, 24);
    assert.equal(whole.usage.total_tokens, whole.usage.input_tokens + 24);

    let text = '';
    let next = 0;
    let last;
    for await (const event of await client.responses.create({ ...asked, stream: true })) {
      assert.equal(event.sequence_number, next++);
      if (event.type === 'response.output_text.delta') text += event.delta;
      last = event;
    }
    assert.equal(text, whole.output_text);
    assert.equal(last.type, 'response.incomplete');
    assert.equal(last.response.usage.output_tokens, 24);
  });

  test("work with the client's stream helper", async () => {
    const pieces = [];
    const stream = client.responses.stream(asked).on('response.output_text.delta', (event) => pieces.push(event.delta));
    const final = await stream.finalResponse();
    assert.equal(final.output_text, pieces.join(''));
  });

  test('go on from the one before', async () => {
    const first = await client.responses.create(asked);
    const second = await client.responses.create({ ...asked, input: '# more\n', previous_response_id: first.id });
    const whole = await client.responses.create({
      ...asked,
      store: false,
      input: [{ role: 'user', content: asked.input }, ...first.output, { role: 'user', content: '# more\n' }],
    });
    assert.equal(second.output_text, whole.output_text);
    assert.equal(second.usage.input_tokens, whole.usage.input_tokens);
  });

  test('are kept, listed and deleted', async () => {
    const first = await client.responses.create(asked);
    const kept = await client.responses.retrieve(first.id);
    assert.equal(kept.output_text, first.output_text);
    const items = await client.responses.inputItems.list(first.id);
    assert.deepEqual(items.data.map((item) => item.content[0].text), [asked.input]);
    await client.responses.delete(first.id);
    await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
    await assert.rejects(client.responses.create({ ...asked, previous_response_id: first.id }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, 'previous_response_id');
      return true;
    });
  });

  test('raise errors that name the parameter', async () => {
    await assert.rejects(client.responses.create({ ...asked, background: true }), (error) => error.code === 'unsupported' && error.param === 'background');
    await assert.rejects(client.responses.create({ ...asked, model: 'gpt-x' }), OpenAI.NotFoundError);
    await assert.rejects(client.responses.create({ ...asked, tools: [{ type: 'web_search' }] }), /web_search/);
  });

  test('an aborted stream frees the engine', async () => {
    const stream = await client.responses.create({ ...asked, max_output_tokens: 3000, stream: true });
    for await (const event of stream) {
      if (event.type === 'response.output_text.delta') break;
    }
    stream.controller.abort();
    await server.until(async () => (await server.metric('vllm:num_requests_running')) === 0);
  });
});

describe('a session store in a file', { timeout }, () => {
  let folder;
  before(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-')); });
  after(() => rmSync(folder, { recursive: true }));

  test('outlives the server', async () => {
    const flags = ['--session-store', path.join(folder, 'sessions.db')];
    let server = await Server.start(...flags);
    const first = await connect(server).responses.create(asked);
    await server.kill();
    server = await Server.start(...flags);
    try {
      assert.equal((await connect(server).responses.retrieve(first.id)).output_text, first.output_text);
      const second = await connect(server).responses.create({ ...asked, previous_response_id: first.id });
      assert.equal(second.previous_response_id, first.id);
    } finally {
      await server.kill();
    }
  });

  test('that is damaged stops the start, and says so', () => {
    const file = path.join(folder, 'damaged.db');
    writeFileSync(file, 'x'.repeat(5000));
    const started = spawnSync(program, ['serve', '--port', '0', '--session-store', file], { encoding: 'utf8' });
    assert.equal(started.status, 1);
    assert.match(started.stderr, /damaged\.db/);
  });
});
