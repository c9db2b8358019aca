// The gateway before real servers.
import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { inParallel, random, request, Servers, startGateway, stream } from './chaos.mjs';
import { Link } from './link.mjs';
import { parsePrometheus } from './prometheus.mjs';
import { Server } from './server.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-gateway-'));
after(() => rmSync(folder, { recursive: true }));

async function ready(gateway) {
  await gateway.until(async () => (await fetch(`${gateway.url}/ready`)).status === 200);
}

async function spansOf(url, traceId) {
  const traces = await (await fetch(`${url}/debug/traces?trace_id=${traceId}`)).json();
  return traces.flatMap((trace) => trace.spans);
}

test('streams come out whole and unchanged while servers are killed', async () => {
  const count = 40;
  const servers = await Servers.start(3, '--threads', '1');
  const gateway = await startGateway(servers.urls);
  try {
    await ready(gateway);
    const expected = await inParallel(count, 4, (i) => stream(servers.urls[i % 3], request(i)));
    for (const { done, error } of expected) assert.ok(done && !error);
    const draw = random(1);
    let pieces = 0;
    const heard = await inParallel(count, 4, (i) =>
      stream(gateway.url, request(i), () => {
        if (++pieces % 40 === 0) servers.kill(draw);
      }),
    );
    for (let i = 0; i < count; ++i) assert.deepEqual(heard[i], expected[i], `stream ${i}: ${JSON.stringify(request(i))}`);
    assert.equal(servers.failure, undefined);
    assert.ok(servers.kills >= 3, `only ${servers.kills} kills`);
    assert.equal(await gateway.metric('tidemill_gateway_lost_streams_total'), 0);
    assert.ok((await gateway.metric('tidemill_gateway_resumed_streams_total{kind="exact"}')) > 0);
  } finally {
    await gateway.kill();
    await servers.stop();
  }
});

test("threads of Anthropic's client go on from all that was said", async () => {
  const servers = await Servers.start(1);
  const gateway = await startGateway(servers.urls);
  try {
    await ready(gateway);
    const client = new Anthropic({ baseURL: gateway.url, apiKey: 'unused', maxRetries: 0 });
    const asked = { model: 'nano-coder', max_tokens: 8, temperature: 0 };
    const thread = client.beta.messages.thread(asked);
    await thread.send({ role: 'user', content: 'def one():' });
    const second = await thread.send({ role: 'user', content: 'def two():' });
    const whole = await client.messages.create({ ...asked, messages: thread.messages.slice(0, 3) });
    assert.equal(second.content[0].text, whole.content[0].text);
    const prompt = ({ usage }) => usage.input_tokens + usage.cache_read_input_tokens;
    assert.equal(prompt(second), prompt(whole));
  } finally {
    await gateway.kill();
    await servers.stop();
  }
});

test('one trace, one log line, no prompt in it; the configuration is read again', async () => {
  const log = path.join(folder, 'access.jsonl');
  const file = path.join(folder, 'tidemill.toml');
  const servers = await Servers.start(1);
  writeFileSync(file, `[gateway]\naccess_log = "${log}"\n[[gateway.backend]]\nurl = "${servers.urls[0]}"\nname = "one"\n`);
  const gateway = await Server.launch('gateway', '--config', file);
  try {
    await ready(gateway);
    const traceId = '0123456789abcdef0123456789abcdef';
    const response = await fetch(`${gateway.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', traceparent: `00-${traceId}-0123456789abcdef-01`, 'x-request-id': 'abc' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'my secret words' }], max_tokens: 4 }),
    });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('x-request-id'), 'abc');
    await response.json();
    let ours = [];
    let theirs = [];
    await gateway.until(async () => {
      [ours, theirs] = [await spansOf(gateway.url, traceId), await spansOf(servers.urls[0], traceId)];
      return ours.some((s) => s.kind === 'server') && theirs.some((s) => s.kind === 'server');
    });
    const upstream = ours.find((s) => s.kind === 'client');
    assert.equal(theirs.find((s) => s.kind === 'server').parent_span_id, upstream.span_id);
    assert.equal(ours.find((s) => s.kind === 'server').parent_span_id, '0123456789abcdef');

    // A stream that runs over the reload is not dropped; the new model name counts afterwards.
    let reloaded = false;
    const heard = await stream(gateway.url, ['/v1/completions', { prompt: 'x = 1\n', max_tokens: 64, temperature: 0 }], () => {
      if (reloaded) return;
      reloaded = true;
      appendFileSync(file, 'models = ["renamed"]\n');
      gateway.child.kill('SIGHUP');
    });
    assert.ok(heard.done && !heard.error);
    await gateway.until(async () => (await (await fetch(`${gateway.url}/v1/models`)).json()).data[0]?.id === 'renamed');

    // A broken file changes nothing.
    appendFileSync(file, 'wrong = 1\n');
    gateway.child.kill('SIGHUP');
    await gateway.until(async () => gateway.output.includes("unknown key 'gateway.backend.wrong'"));
    assert.equal((await fetch(`${gateway.url}/ready`)).status, 200);

    // Nor does one that is caught while it is being written.
    writeFileSync(file, '');
    gateway.child.kill('SIGHUP');
    await gateway.until(async () => gateway.output.includes(`${file}: no backend is left`));
    assert.equal((await fetch(`${gateway.url}/ready`)).status, 200);

    const { code } = await gateway.stop();
    assert.equal(code, 0);
    const text = readFileSync(log, 'utf8');
    assert.ok(!text.includes('secret'));
    const lines = text.trim().split('\n').map((line) => JSON.parse(line));
    const line = lines.find((l) => l.id === 'abc');
    assert.equal(line.trace_id, traceId);
    assert.equal(line.backend, 'one');
    assert.equal(line.status, 200);
    assert.equal(line.tries, 1);
  } finally {
    gateway.kill();
    await servers.stop();
  }
});

test('one trace shows a stream that was taken up elsewhere', async (t) => {
  const servers = await Promise.all([Server.start('--threads', '1'), Server.start('--threads', '1')]);
  t.after(() => Promise.all(servers.map((server) => server.kill())));
  const asked = ['/v1/completions', { prompt: 'def fibonacci(n):\n', max_tokens: 48, temperature: 0, ignore_eos: true }];
  const expected = await stream(servers[0].url, asked);

  // Whichever server is asked dies in mid-stream, once the client has read something.
  let begin;
  const begun = new Promise((resolve) => (begin = resolve));
  let dead;
  const links = await Promise.all(servers.map((server, i) => Link.start(server, async (mark) => {
    if (dead !== undefined || mark < 4) return true;
    dead = i;
    await begun;
    await server.kill();
    return false;
  })));
  t.after(() => links.forEach((link) => link.cut()));
  const gateway = await startGateway(links.map((link) => link.url));
  t.after(() => gateway.kill());
  await gateway.until(async () => (await (await fetch(`${gateway.url}/backends`)).json()).backends.every((b) => b.ready));

  const traceId = '00112233445566778899aabbccddeeff';
  const heard = await stream(gateway.url, asked, begin, { traceparent: `00-${traceId}-0123456789abcdef-01` });
  assert.deepEqual(heard, expected);
  assert.equal(await gateway.metric('tidemill_gateway_resumed_streams_total{kind="exact"}'), 1);

  const isEntry = (span) => span.kind === 'server';
  let ours = [];
  let theirs = [];
  await gateway.until(async () => {
    [ours, theirs] = [await spansOf(gateway.url, traceId), await spansOf(servers[1 - dead].url, traceId)];
    return ours.some(isEntry) && theirs.some(isEntry);
  });
  const entry = ours.find(isEntry);
  assert.equal(entry.parent_span_id, '0123456789abcdef');
  assert.deepEqual(entry.events.map((event) => event.name), ['resumed']);
  const tries = ours.filter((s) => s.name === 'upstream').sort((a, b) => a.attributes['tidemill.try'] - b.attributes['tidemill.try']);
  assert.deepEqual(tries.map((s) => s.attributes['tidemill.try']), [1, 2]);
  assert.deepEqual(tries.map((s) => s.parent_span_id), [entry.span_id, entry.span_id]);
  assert.deepEqual(tries.map((s) => s.attributes['tidemill.backend']), [dead, 1 - dead].map((i) => new URL(links[i].url).host));
  assert.deepEqual(tries.map((s) => s.error !== null), [true, false]);
  // The dead server's spans died with it: what it was told remains.
  assert.deepEqual(links[dead].posted('traceparent'), [`00-${traceId}-${tries[0].span_id}-01`]);
  assert.equal(theirs.find(isEntry).parent_span_id, tries[1].span_id);
});

test('up shows metrics, spans and models of its server beside those of its gateway', async () => {
  const up = await Server.launch('up');
  try {
    const traceId = 'fedcba9876543210fedcba9876543210';
    const response = await fetch(`${up.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', traceparent: `00-${traceId}-0123456789abcdef-00` },
      body: JSON.stringify({ prompt: 'import os\n', max_tokens: 4, temperature: 0 }),
    });
    assert.equal(response.status, 200);
    await response.json();

    const wanted = ['upstream', 'receive', 'llm_request', 'queue', 'prefill', 'decode'];
    const entered = 'POST /v1/completions';
    let spans = [];
    await up.until(async () => {
      spans = await spansOf(up.url, traceId);
      return wanted.every((name) => spans.some((s) => s.name === name)) && spans.filter((s) => s.name === entered).length === 2;
    });
    const upstream = spans.find((s) => s.name === 'upstream');
    const [gateway, server] = spans.filter((s) => s.name === entered);
    assert.equal(gateway.parent_span_id, '0123456789abcdef');
    assert.equal(upstream.parent_span_id, gateway.span_id);
    assert.equal(server.parent_span_id, upstream.span_id);

    let families;
    let answered = [];
    await up.until(async () => {  // an exchange is counted after its answer
      families = parsePrometheus(await (await fetch(`${up.url}/metrics`)).text());
      answered = families.get('tidemill_http_requests_total').samples.filter((s) => s.labels.route === '/v1/completions');
      return answered.length > 0;
    });
    for (const name of ['vllm:num_requests_waiting', 'vllm:kv_cache_usage_perc', 'vllm:lora_requests_info', 'tidemill_engine_steps_total',
      'tidemill_gateway_first_byte_seconds', 'tidemill_http_requests_total', 'process_resident_memory_bytes']) {
      assert.ok(families.get(name)?.samples.length > 0, name);
    }
    assert.equal(families.get('vllm:time_to_first_token_seconds').samples.find((s) => s.name.endsWith('_count')).value, 1);
    assert.deepEqual(answered.map((s) => s.value), [1]);

    const { data } = await (await fetch(`${up.url}/v1/models`)).json();
    assert.deepEqual(data.map((card) => card.id), ['nano-coder']);
    assert.ok(data[0].created > 0 && data[0].max_model_len > 0, JSON.stringify(data));
  } finally {
    await up.kill();
  }
});

test("OpenAI's client hears of a stream that nobody could take up, and of nothing behind the gateway", async () => {
  const servers = await Servers.start(1);
  const gateway = await startGateway(servers.urls, '--gateway.resume-window', '300ms');
  try {
    await ready(gateway);
    const client = new OpenAI({ baseURL: `${gateway.url}/v1`, apiKey: 'none', maxRetries: 0 });
    const events = [];
    const stream = await client.responses.create({ model: 'nano-coder', input: 'def quicksort(', max_output_tokens: 2000, stream: true });
    await assert.rejects(async () => {
      for await (const event of stream) {
        if (event.type === 'response.output_text.delta' && !servers.stopped) servers.stop();
        events.push(event);
      }
    }, (error) => error instanceof OpenAI.APIError && /could not be taken up/.test(error.message));
    const last = events.at(-1);
    assert.equal(last.type, 'response.failed');
    assert.equal(last.response.id, events[0].response.id);
    assert.equal(last.response.error.code, 'server_error');
    assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, i) => i));
    const port = new URL(servers.urls[0]).port;
    assert.ok(!JSON.stringify(last).includes(port));
    await gateway.until(() => gateway.output.includes(`could not be taken up: cannot connect to 127.0.0.1:${port}`));
    await assert.rejects(client.responses.create({ model: 'nano-coder', input: 'x' }), (error) => {
      assert.equal(error.status, 503);
      assert.ok(!error.message.includes(port), error.message);
      return true;
    });
  } finally {
    gateway.kill();
    await servers.stop();
  }
});

test('a gateway that drains finishes what it began', async () => {
  const servers = await Servers.start(1);
  const gateway = await startGateway(servers.urls);
  try {
    await ready(gateway);
    let exited;
    const heard = await stream(gateway.url, ['/v1/completions', { prompt: 'y = 2\n', max_tokens: 64, temperature: 0 }], () => {
      exited ??= gateway.stop();
    });
    assert.ok(heard.done && !heard.error);
    assert.equal((await exited).code, 0);
  } finally {
    gateway.kill();
    await servers.stop();
  }
});
