// Who may ask the gateway for how much, and who goes first: keys, limits and priorities through the program.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Link } from './link.mjs';
import { Redis } from './redis.mjs';
import { program, Server } from './server.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-access-'));
after(() => rmSync(folder, { recursive: true }));

function put(name, text) {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

// The secret of a new key in `file`.
function makeKey(file, tenant, ...flags) {
  const made = execFileSync(program, ['keys', 'create', '--keys', file, '--tenant', tenant, '--name', 'test', '--json', ...flags]);
  return JSON.parse(made).secret;
}

async function serve(t) {
  const server = await Server.start('--threads', '1');
  t.after(() => server.kill());
  return server;
}

async function launch(t, ...flags) {
  const gateway = await Server.launch('gateway', ...flags);
  t.after(() => gateway.kill());
  return gateway;
}

async function ask(gateway, key, body, id = '') {
  const answer = await fetch(`${gateway.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, 'x-request-id': id },
    body: JSON.stringify({ model: 'nano-coder', prompt: 'x = ', temperature: 0, ...body }),
  });
  return { status: answer.status, retryAfter: answer.headers.get('retry-after'), text: await answer.text() };
}

test('a key of high priority goes before those that wait with a low one', async (t) => {
  const server = await serve(t);
  let release;
  const released = new Promise((resolve) => (release = resolve));
  const link = await Link.start(server, async () => {
    await released;
    return true;
  });
  t.after(() => link.cut());
  const keys = path.join(folder, 'priorities.json');
  const [low, high] = ['low', 'high'].map((priority) => makeKey(keys, 'acme', '--priority', priority));
  const gateway = await launch(t, '--backend', link.url, '--keys', keys, '--gateway.slots', '1', '--gateway.longest-wait', '1h',
    '--gateway.stall-timeout', '1h', '--gateway.poll-timeout', '1h');
  await gateway.until(async () => (await fetch(`${gateway.url}/ready`)).status === 200);

  const answers = [];
  const send = async (id, key, waiting) => {
    answers.push(ask(gateway, key, { max_tokens: 4, stream: true }, id));
    await gateway.until(async () => (await gateway.metric('tidemill_gateway_requests_queued')) === waiting);
  };
  await send('holds-the-slot', low, 0);
  await gateway.until(async () => (await gateway.metric('tidemill_gateway_requests_running')) === 1);
  for (let i = 1; i <= 3; ++i) await send(`low-${i}`, low, i);
  await send('high', high, 4);
  release();
  for (const { status, text } of await Promise.all(answers)) assert.equal(status, 200, text);
  assert.deepEqual(link.posted('x-request-id'), ['holds-the-slot', 'high', 'low-1', 'low-2', 'low-3']);
});

const withoutRedis = Redis.installed() ? false : 'redis-server is not installed';

test('what one gateway has let in counts at another that shares its Redis', { skip: withoutRedis }, async (t) => {
  const redis = await Redis.start();
  t.after(() => redis.kill());
  const server = await serve(t);
  const keys = path.join(folder, 'shared.json');
  const policy = put('policy.toml', '[tenants.asks]\nrequests_per_minute = 2\n[tenants.talks]\ntokens_per_minute = 50\n');
  const shared = ['--keys', keys, '--policy', policy, '--session-store', redis.url];
  const tenants = ['asks', 'talks', 'new'].map((tenant) => makeKey(keys, tenant));
  const gateway = await launch(t, '--backend', server.url, ...shared);
  await gateway.until(async () => (await fetch(`${gateway.url}/ready`)).status === 200);
  // Nobody answers for this one, so that it counts nothing by itself, and 503 means that its limits let a request pass.
  const nobody = put('nobody.toml', '[[gateway.backend]]\nurl = "http://127.0.0.1:1"\nmodels = ["nano-coder"]\n');
  const other = await launch(t, '--config', nobody, '--gateway.patience', '0s', '--gateway.retries', '0', ...shared);

  // Two of these are most of a minute's tokens. One alone is not, so that what `other` has given back too late to be
  // counted does not refuse the next.
  const asked = { max_tokens: 20, ignore_eos: true };
  for (const [key, limit] of [[tenants[0], 'requests'], [tenants[1], 'tokens']]) {
    const statuses = new Set();
    let told;
    await other.until(async () => {
      // Again and again, since with time some of a limit comes back.
      for (let i = 0; i < 2; ++i) statuses.add((await ask(gateway, key, asked)).status);
      told = await ask(other, key, asked);
      return told.status !== 503;
    });
    assert.ok(statuses.has(200), JSON.stringify([...statuses]));
    assert.equal(told.status, 429, told.text);
    assert.deepEqual([JSON.parse(told.text).error.type, JSON.parse(told.text).error.code], [limit, 'rate_limit_exceeded']);
    assert.ok(Number(told.retryAfter) >= 1);
  }
  assert.equal((await ask(other, tenants[2], asked)).status, 503);
});
