// `tidemill serve` as those who run it see it: metrics, traces, limits, and clients that try again.
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import OpenAI from 'openai';
import { parsePrometheus } from './prometheus.mjs';
import { Server } from './server.mjs';

const timeout = 300_000;
const model = 'nano-coder';

// A server that ends with the test.
async function serve(t, ...flags) {
  const server = await Server.start(...flags);
  t.after(() => server.kill());
  return server;
}

const clientOf = (server, more = {}) => new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'unused', maxRetries: 0, ...more });

describe('/metrics', { timeout }, () => {
  test('is read by a reader that takes nothing else', () => {
    const head = '# HELP a b\n# TYPE a histogram\n';
    const good = `${head}a_bucket{le="1"} 1\na_bucket{le="+Inf"} 2\na_sum 3\na_count 2\n`;
    assert.equal(parsePrometheus(good).get('a').samples.length, 4);
    for (const [from, to] of [['_count 2', '_count 3'], ['"1"} 1', '"1"} 3'], ['+Inf', '2'], ['a_sum 3\n', ''], ['a_sum', 'b_sum'],
      ['# TYPE', '# HELP a b\n# TYPE'], ['3\na', '3\na_sum 3\na'], ['{le="1"}', '{le="1'], ['_sum 3', '_sum three'], [head, ''],
      ['2\na_sum', '2\n# HELP c d\n# TYPE c gauge\nc 1\na_sum']]) {
      assert.ok(good.includes(from));
      assert.throws(() => parsePrometheus(good.replace(from, to)), assert.AssertionError, `${from} as ${to}`);
    }
  });

  test('is what a strict scraper reads, with histograms that add up', async (t) => {
    const server = await serve(t);
    const fresh = parsePrometheus(await (await fetch(`${server.url}/metrics`)).text());
    assert.ok(fresh.size > 20);
    const client = clientOf(server);
    await client.completions.create({ model, prompt: ['a = ', 'b = '], max_tokens: 5 });
    await client.embeddings.create({ model, input: 'x' });
    await assert.rejects(client.completions.create({ model: 'no"such\\model\n', prompt: 'x' }), OpenAI.NotFoundError);
    await fetch(`${server.url}/a"b\\c`);
    const answer = await fetch(`${server.url}/metrics`);
    assert.match(answer.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
    const families = parsePrometheus(await answer.text());
    const total = (name) => families.get(name).samples.reduce((sum, sample) => sum + sample.value, 0);
    assert.ok(total('vllm:generation_tokens_total') <= 10 && total('vllm:generation_tokens_total') >= 2);
    const first = families.get('vllm:time_to_first_token_seconds').samples;
    assert.equal(first.find((s) => s.name.endsWith('_count')).value, 2);
  });
});

describe('the log', { timeout }, () => {
  const long = { model, prompt: 'import os\n', max_tokens: 4000, temperature: 0, stream: true };
  const counted = /POST \/v1\/completions 200 .* prompt=[1-9]\d* cached=\d+ completion=[1-9]\d* id=/g;

  test('counts what was computed for streams that were given up or cut', async (t) => {
    const server = await serve(t, '--server.drain-timeout', '0s');
    for await (const chunk of await clientOf(server).completions.create({ ...long, ignore_eos: true })) {
      assert.equal(chunk.object, 'text_completion');
      break;
    }
    await server.until(() => server.output.match(counted)?.length === 1);
    const cut = (await clientOf(server).completions.create({ ...long, ignore_eos: true }))[Symbol.asyncIterator]();
    await cut.next();
    const exited = server.stop();
    await assert.rejects(async () => { while (!(await cut.next()).done); }, /server has stopped/);
    assert.deepEqual(await exited, { code: 0, signal: null });
    await server.until(() => server.output.match(counted)?.length === 2);
  });
});

// An OTLP/HTTP collector that keeps what it is sent.
class Collector {
  static async start(t) {
    const collector = new Collector();
    collector.posts = [];
    collector.server = http.createServer(async (request, response) => {
      const body = (await request.setEncoding('utf8').toArray()).join('');
      collector.posts.push({ method: request.method, url: request.url, headers: request.headers, body: JSON.parse(body) });
      response.setHeader('Content-Type', 'application/json');
      response.end('{}');
    });
    await once(collector.server.listen(0, '127.0.0.1'), 'listening');
    t.after(() => collector.stop());
    collector.url = `http://127.0.0.1:${collector.server.address().port}`;
    return collector;
  }

  spans() {
    return this.posts.flatMap(({ body }) => body.resourceSpans).flatMap((r) => r.scopeSpans).flatMap((s) => s.spans);
  }

  stop() {
    this.server.close();
    this.server.closeAllConnections();
  }
}

describe('trace export', { timeout }, () => {
  test('sends OTLP in its JSON form to the endpoint of the command line', async (t) => {
    const collector = await Collector.start(t);
    const server = await serve(t, '--observe.otlp-endpoint', collector.url);
    const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
    const parent = '00f067aa0ba902b7';
    await clientOf(server).completions.create({ model, prompt: 'import ', max_tokens: 3 },
      { headers: { traceparent: `00-${trace}-${parent}-01` } });
    assert.deepEqual(await server.stop(), { code: 0, signal: null }); // what is queued goes out first
    for (const post of collector.posts) {
      assert.equal(post.method, 'POST');
      assert.equal(post.url, '/v1/traces');
      assert.match(post.headers['content-type'], /^application\/json/);
      for (const { resource } of post.body.resourceSpans) {
        const service = resource.attributes.find(({ key }) => key === 'service.name');
        assert.deepEqual(service.value, { stringValue: 'tidemill' });
      }
    }
    const spans = collector.spans().filter(({ traceId }) => traceId === trace);
    const root = spans.find(({ name }) => name === 'POST /v1/completions');
    assert.equal(root.parentSpanId, parent);
    assert.equal(root.kind, 2);
    const ids = new Set(spans.map(({ spanId }) => spanId));
    assert.equal(ids.size, spans.length);
    for (const span of spans) {
      assert.match(span.spanId, /^[0-9a-f]{16}$/);
      assert.match(span.startTimeUnixNano, /^\d{19}$/);
      assert.match(span.endTimeUnixNano, /^\d{19}$/);
      assert.ok(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano), span.name);
      assert.ok(span === root || ids.has(span.parentSpanId), `${span.name} hangs in the tree`);
      for (const { key, value } of span.attributes ?? []) {
        assert.ok(key.length > 0);
        assert.equal(Object.keys(value).length, 1);
        assert.match(Object.keys(value)[0], /^(string|bool|int|double|array)Value$/);
        if ('intValue' in value) assert.match(value.intValue, /^-?\d+$/);
      }
    }
    for (const name of ['receive', 'queue', 'prefill', 'decode']) {
      assert.ok(spans.some((span) => span.name.startsWith(name)), name);
    }
  });

  test('does not keep the server from answering or ending where nobody collects', async (t) => {
    const collector = await Collector.start(t);
    collector.stop();
    const server = await serve(t, '--observe.otlp-endpoint', collector.url);
    const answer = await clientOf(server).completions.create({ model, prompt: 'import ', max_tokens: 3 });
    assert.equal(answer.object, 'text_completion');
    assert.deepEqual(await server.stop(), { code: 0, signal: null });
  });
});

describe('the context', { timeout }, () => {
  const context = 96;
  let server;
  let client;
  before(async () => {
    server = await Server.start('--max-context', String(context));
    client = clientOf(server);
  });
  after(() => server.kill());

  const prompt = (count) => Array.from({ length: count }, (_, i) => 300 + i);
  const complete = (count, more) => client.completions.create({ model, prompt: prompt(count), ...more });
  const tooLong = (count) => (e) => e instanceof OpenAI.BadRequestError && e.code === 'context_length_exceeded' &&
    e.param === 'prompt' && e.message.includes(String(count)) && e.message.includes(String(context));

  test('holds prompt and answer up to its last token', async () => {
    for (const [count, generated] of [[context - 1, 1], [context - 2, 2], [context - 5, 4]]) {
      const answer = await complete(count, { max_tokens: generated < 4 ? 50 : 4, ignore_eos: true });
      assert.deepEqual([answer.usage.prompt_tokens, answer.usage.completion_tokens], [count, generated]);
      assert.equal(answer.choices[0].finish_reason, 'length');
    }
  });

  test('has no room for an answer to a prompt that fills it, but scores and embeds it', async () => {
    await assert.rejects(complete(context, { max_tokens: 1 }), tooLong(context));
    await assert.rejects(complete(context, { max_tokens: 1, stream: true }), tooLong(context));
    const scored = await complete(context, { max_tokens: 0, echo: true, logprobs: 0 });
    assert.equal(scored.choices[0].logprobs.token_logprobs.length, context);
    const embedded = await client.embeddings.create({ model, input: prompt(context) });
    assert.equal(embedded.usage.prompt_tokens, context);
  });

  test('refuses one token more for whatever', async () => {
    for (const max_tokens of [0, 1]) await assert.rejects(complete(context + 1, { max_tokens }), tooLong(context + 1));
    await assert.rejects(client.embeddings.create({ model, input: prompt(context + 1) }),
      (e) => e.status === 400 && e.code === 'context_length_exceeded' && e.param === 'input');
  });
});

describe('a second signal', { timeout }, () => {
  const body = JSON.stringify({ prompt: 'x', max_tokens: 4000, stream: true, ignore_eos: true, temperature: 0 });

  for (const [command, start, stopped] of [
    ['serve', () => Server.start(), 'the server has stopped before the answer ended'],
    ['up', () => Server.launch('up'), 'the gateway has stopped before the answer ended'],
  ]) {
    test(`ends what ${command} still answers, and says so`, async (t) => {
      const server = await start();
      t.after(() => server.kill());
      await server.until(async () => (await fetch(`${server.url}/ready`)).status === 200);
      const answer = await fetch(`${server.url}/v1/completions`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
      const pieces = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let heard = (await pieces.read()).value;
      server.child.kill('SIGTERM');
      await server.until(async () => (await fetch(`${server.url}/ready`)).status === 503);
      server.child.kill('SIGTERM');
      for (let piece = await pieces.read(); !piece.done; piece = await pieces.read()) heard += piece.value;
      const last = JSON.parse(heard.slice(heard.lastIndexOf('data: ') + 6));
      assert.equal(last.error.message, stopped);
      assert.deepEqual(await server.exited, { code: 130, signal: null });
    });
  }
});

describe('a client that tries again', { timeout }, () => {
  const endless = { model, prompt: 'x', max_tokens: 4000, stream: true, ignore_eos: true };

  // The client's transport, with what it was answered.
  const watched = (on_status) => ({
    fetch: async (...asked) => {
      const answer = await fetch(...asked);
      await on_status(answer);
      return answer;
    },
  });

  test('waits out a full queue', async (t) => {
    const server = await serve(t, '--engine.max-running', '1', '--engine.max-waiting', '1');
    // How long the client is told to wait follows from how long answers have been so far: a token, and not a minute's.
    await clientOf(server).completions.create({ model, prompt: 'x', max_tokens: 1 });
    const busy = new AbortController();
    const running = await clientOf(server).completions.create(endless, { signal: busy.signal });
    await running[Symbol.asyncIterator]().next();
    const waiting = clientOf(server).completions.create(endless, { signal: busy.signal }).catch(() => {});
    await server.until(async () => (await server.metric('vllm:num_requests_waiting')) === 1);
    const statuses = [];
    const patient = clientOf(server, {
      maxRetries: 5,
      ...watched(async ({ status, headers }) => {
        statuses.push(status);
        if (status !== 429) return;
        assert.ok(Number(headers.get('retry-after')) >= 1);
        busy.abort();
        await server.until(async () => (await server.metric('vllm:num_requests_running')) === 0);
      }),
    });
    const answer = await patient.completions.create({ model, prompt: 'y', max_tokens: 2 });
    assert.equal(answer.object, 'text_completion');
    assert.deepEqual(statuses, [429, 200]);
    await waiting;
  });

  test('gets over a restart', async (t) => {
    const first = await serve(t);
    const stream = await clientOf(first).completions.create({ ...endless, max_tokens: 200 });
    const chunks = stream[Symbol.asyncIterator]();
    await chunks.next();
    const exited = first.stop();
    await first.until(async () => (await fetch(`${first.url}/ready`)).status === 503);
    const statuses = [];
    const patient = clientOf(first, {
      maxRetries: 10,
      ...watched(async ({ status, headers }) => {
        statuses.push(status);
        if (status !== 503) return;
        assert.ok(Number(headers.get('retry-after')) >= 1);
        while (!(await chunks.next()).done);
        assert.deepEqual(await exited, { code: 0, signal: null });
        await serve(t, '--port', new URL(first.url).port);
      }),
    });
    const answer = await patient.completions.create({ model, prompt: 'y', max_tokens: 2 });
    assert.equal(answer.object, 'text_completion');
    assert.deepEqual(statuses, [503, 200]);
  });
});
