// The official `openai` client against `tidemill serve` with the built-in model.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { Server } from './server.mjs';

const code = 'def fibonacci(n):\n    """Return the n-th number."""\n';
const messages = [{ role: 'user', content: code }];
const timeout = 300_000;

describe('the openai client', { timeout }, () => {
  let server;
  let client;

  before(async () => {
    server = await Server.start();
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
  });
  after(() => server.kill());

  test('lists and retrieves the model', async () => {
    const models = (await client.models.list()).data;
    assert.deepEqual(models.map((m) => m.id), ['nano-coder']);
    assert.equal((await client.models.retrieve('nano-coder')).object, 'model');
    await assert.rejects(client.models.retrieve('other/model'), OpenAI.NotFoundError);
  });

  test('completes a chat, streamed and whole alike', async () => {
    const asked = { model: 'nano-coder', messages, temperature: 0, max_tokens: 24 };
    const whole = await client.chat.completions.create(asked);
    const choice = whole.choices[0];
    assert.equal(whole.object, 'chat.completion');
    assert.equal(choice.message.role, 'assistant');
    assert.ok(choice.message.content.length > 0);
    assert.equal(choice.finish_reason, 'length');
    assert.equal(whole.usage.completion_tokens, 24);
    assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + 24);

    const stream = await client.chat.completions.create({
      ...asked,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let finish;
    let usage;
    for await (const chunk of stream) {
      assert.equal(chunk.object, 'chat.completion.chunk');
      text += chunk.choices[0]?.delta.content ?? '';
      finish ??= chunk.choices[0]?.finish_reason ?? undefined;
      usage = chunk.usage ?? usage;
    }
    assert.equal(text, choice.message.content);
    assert.equal(finish, 'length');
    assert.equal(usage.completion_tokens, 24);
    assert.ok(usage.prompt_tokens_details.cached_tokens >= 0);
  });

  test("works with the client's stream helper", async () => {
    const runner = client.chat.completions.stream({ model: 'nano-coder', messages, max_tokens: 8, temperature: 0 });
    const final = await runner.finalChatCompletion();
    assert.equal(final.choices[0].finish_reason, 'length');
    assert.ok((await runner.finalContent()).length > 0);
  });

  test('gives the same output for the same seed, and n choices', async () => {
    const asked = { model: 'nano-coder', messages, seed: 7, temperature: 1, max_tokens: 12, n: 3 };
    const first = await client.chat.completions.create(asked);
    const second = await client.chat.completions.create(asked);
    const texts = (answer) => answer.choices.map((c) => c.message.content);
    assert.deepEqual(first.choices.map((c) => c.index), [0, 1, 2]);
    assert.deepEqual(texts(first), texts(second));
    assert.ok(new Set(texts(first)).size > 1, 'three choices drawn at temperature 1 differ');
  });

  test('gives log probabilities', async () => {
    const answer = await client.chat.completions.create({
      model: 'nano-coder', messages, max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 3,
    });
    const content = answer.choices[0].logprobs.content;
    assert.equal(content.length, 4);
    for (const token of content) {
      assert.equal(token.top_logprobs.length, 3);
      assert.equal(token.token, token.top_logprobs[0].token);
      assert.ok(token.logprob <= 0);
      assert.deepEqual(Buffer.from(token.bytes).toString(), token.token);
    }
  });

  test('completes text, streamed and whole alike, with stop strings and echo', async () => {
    const asked = { model: 'nano-coder', prompt: ['import numpy as', 'class A'], temperature: 0, max_tokens: 16 };
    const whole = await client.completions.create(asked);
    assert.deepEqual(whole.choices.map((c) => c.index), [0, 1]);
    const texts = ['', ''];
    for await (const chunk of await client.completions.create({ ...asked, stream: true })) {
      for (const choice of chunk.choices) texts[choice.index] += choice.text;
    }
    assert.deepEqual(texts, whole.choices.map((c) => c.text));

    const full = whole.choices[0].text;
    const stop = full.slice(3, 6);
    const stopped = await client.completions.create({ ...asked, prompt: asked.prompt[0], stop });
    assert.equal(stopped.choices[0].text, full.slice(0, full.indexOf(stop)));
    assert.equal(stopped.choices[0].finish_reason, 'stop');

    const echoed = await client.completions.create({ ...asked, prompt: 'import os', echo: true, logprobs: 1, max_tokens: 0 });
    assert.equal(echoed.choices[0].text, 'import os');
    assert.equal(echoed.choices[0].logprobs.token_logprobs[0], null);
  });

  test('embeds text', async () => {
    const decoded = await client.embeddings.create({ model: 'nano-coder', input: ['def f():', 'import os'] });
    const floats = await client.embeddings.create({
      model: 'nano-coder', input: ['def f():', 'import os'], encoding_format: 'float',
    });
    assert.equal(decoded.data.length, 2);
    for (const [i, { embedding }] of decoded.data.entries()) {
      assert.equal(embedding.length, 256);
      assert.ok(Math.abs(Math.hypot(...embedding) - 1) < 1e-4);
      assert.deepEqual([...embedding].map(Math.fround), floats.data[i].embedding.map(Math.fround));
    }
  });

  test('explains errors as the client expects them', async () => {
    const create = (more) => client.chat.completions.create({ model: 'nano-coder', messages, ...more });
    await assert.rejects(create({ temperature: 9 }), (e) => e instanceof OpenAI.BadRequestError && e.param === 'temperature');
    await assert.rejects(create({ messages: [] }), (e) => e.status === 400 && e.param === 'messages');
    await assert.rejects(create({ model: 'gpt-9' }), (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
    const long = [{ role: 'user', content: 'x = 1\n'.repeat(5000) }];
    await assert.rejects(create({ messages: long }), (e) => e.status === 400 && e.code === 'context_length_exceeded' && /4096/.test(e.message));
    await assert.rejects(create({ response_format: { type: 'xml' } }), (e) => e.status === 400 && e.param === 'response_format.type');
    const broken = await fetch(`${server.url}/v1/chat/completions`, { method: 'POST', body: '{"messages":' });
    assert.equal(broken.status, 400);
    assert.equal((await broken.json()).error.type, 'invalid_request_error');
    const unknown = await fetch(`${server.url}/v1/nothing`);
    assert.equal(unknown.status, 404);
    assert.equal((await unknown.json()).error.type, 'invalid_request_error');
  });

  test('stops working when the client aborts in mid-stream', async () => {
    const stream = await client.chat.completions.create({
      model: 'nano-coder', messages, max_tokens: 3000, stream: true, temperature: 0,
    });
    let chunks = 0;
    for await (const _ of stream) if (++chunks === 3) break; // leaving the loop aborts the request
    await server.until(async () => (await server.metric('vllm:num_requests_running')) === 0);
    assert.ok((await server.metric('vllm:generation_tokens_total')) < 3000);
  });

  test('serves while a thousand connections idle', async () => {
    const port = new URL(server.url).port;
    const sockets = await Promise.all(Array.from({ length: 1000 }, () => new Promise((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => resolve(socket)).on('error', reject);
    })));
    try {
      const answer = await client.chat.completions.create({ model: 'nano-coder', messages, max_tokens: 2 });
      assert.equal(answer.usage.completion_tokens, 2);
    } finally {
      for (const socket of sockets) socket.destroy();
    }
  });
});

describe('draining', { timeout }, () => {
  test('SIGTERM lets a running stream finish, refuses new work, exits 0', async () => {
    const server = await Server.start('--server.drain-timeout', '10m');
    try {
      const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0 });
      const stream = await client.chat.completions.create({
        model: 'nano-coder', messages, max_tokens: 400, stream: true, temperature: 0, ...{ ignore_eos: true },
      });
      let finish;
      let chunks = 0;
      let exited;
      for await (const chunk of stream) {
        if (++chunks === 3) exited = server.stop();
        finish = chunk.choices[0]?.finish_reason ?? finish;
      }
      assert.equal(finish, 'length');
      assert.deepEqual(await exited, { code: 0, signal: null });
    } finally {
      await server.kill();
    }
  });
});
