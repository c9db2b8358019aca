// Named routes of a gateway before two real servers: a canary that is promoted, one that fails, a mirror, feedback.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Servers } from './chaos.mjs';
import { Server } from './server.mjs';

// Limits that no difference in speed between two servers on a test's machine can reach.
const anySpeed = 'max_ttft_ratio = 100\nmax_itl_ratio = 100\nmax_length_ratio = 100\n';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-rollouts-'));
let servers;
let gateway;

function route(name, rest) {
  const target = (version, backend, model = 'nano-coder') =>
    `[[gateway.route.target]]\nname = "${version}"\nmodel = "${model}"\nbackends = ["${backend}"]\n`;
  const second = name === 'bad' ? target('v2', 'two', 'nobody') : target('v2', 'two');
  return `[[gateway.route]]\nmodel = "${name}"\n${target('v1', 'one')}${second}${rest}`;
}

before(async () => {
  servers = await Servers.start(2, '--threads', '1');
  const backend = (url, name) => `[[gateway.backend]]\nurl = "${url}"\nname = "${name}"\nmodels = ["nano-coder", "nobody"]\n`;
  const canary = '[gateway.route.canary]\ntarget = "v2"\nsteps = ["50%"]\nmin_requests = 10\n';
  const file = path.join(folder, 'tidemill.toml');
  writeFileSync(
    file,
    backend(servers.urls[0], 'one') +
      backend(servers.urls[1], 'two') +
      route('good', `${canary}max_error_increase = 0.3\n${anySpeed}`) +
      route('bad', `${canary}${anySpeed}`) +
      route('mirrored', '[gateway.route.mirror]\ntarget = "v2"\nshare = "100%"\n') +
      route('smart', '[gateway.route.adaptive]\nreference = "v1"\ncost_weight = 0\nexplore = 0.5\n'),
  );
  gateway = await Server.launch('gateway', '--config', file);
  await gateway.until(async () => {
    const { backends } = await (await fetch(`${gateway.url}/backends`)).json();
    return backends.length === 2 && backends.every((b) => b.ready);
  });
});

after(async () => {
  await gateway?.kill();
  await servers?.stop();
  rmSync(folder, { recursive: true });
});

async function ask(model, i, more = {}) {
  const response = await fetch(`${gateway.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, prompt: `x = ${i}\n`, max_tokens: 2, temperature: 0, ...more }),
  });
  return { status: response.status, target: response.headers.get('x-tidemill-target'), text: await response.text() };
}

async function state(route) {
  return (await fetch(`${gateway.url}/rollouts/${route}`)).json();
}

// Asks, some at a time, and is answered well each time, until the rollout has ended.
async function rollOut(route) {
  const targets = new Set();
  for (let round = 0; round < 500; ++round) {
    const answers = await Promise.all(Array.from({ length: 8 }, (_, i) => ask(route, 8 * round + i, { stream: i % 2 === 0 })));
    for (const { status, target, text } of answers) {
      assert.equal(status, 200, text);
      targets.add(target);
    }
    const { canary } = await state(route);
    if (canary.phase !== 'running') return { canary, targets };
  }
  throw new Error(`the rollout does not end: ${JSON.stringify(await state(route))}`);
}

test('a canary that does no worse is promoted', async () => {
  const { canary, targets } = await rollOut('good');
  assert.equal(canary.phase, 'promoted', JSON.stringify(canary));
  assert.deepEqual([...targets].sort(), ['v1', 'v2']);
  for (let i = 0; i < 8; ++i) {
    const { status, target } = await ask('good', i);
    assert.equal(status, 200);
    assert.equal(target, 'v2');
  }
  assert.equal(await gateway.metric('tidemill_gateway_route_share{route="good",target="v2"}'), 1);
});

test('a canary that fails is rolled back by itself, and no client notices', async () => {
  const { canary, targets } = await rollOut('bad');
  assert.deepEqual([...targets], ['v1'], 'its model is one that its server refuses, so the other version has answered all');
  const { targets: [, second] } = await state('bad');
  assert.ok(second.failed > 0 && second.failed === second.handed_over, JSON.stringify(second));
  assert.equal(canary.phase, 'rolled_back', JSON.stringify(canary));
  assert.equal(canary.reason, 'error_rate');
  for (let i = 0; i < 8; ++i) {
    const { status, target } = await ask('bad', i);
    assert.equal(status, 200);
    assert.equal(target, 'v1');
  }
});

test('a mirror compares two versions side by side', async () => {
  for (let i = 0; i < 6; ++i) {
    const { status, target } = await ask('mirrored', i, { stream: i % 2 === 0, max_tokens: 8 });
    assert.equal(status, 200);
    assert.equal(target, 'v1');
  }
  let mirror;
  await gateway.until(async () => {
    ({ mirror } = await state('mirrored'));
    return mirror.report.pairs === 6;
  });
  // Both serve the same model, so that their answers are the same, byte for byte and token for token.
  assert.equal(mirror.report.exact, 1, JSON.stringify(mirror));
  assert.equal(mirror.report.failed.shadow, 0);
  assert.equal(mirror.report.output_tokens.ratio.p50, 1);
  assert.ok(mirror.report.ttft.shadow.p50 > 0);
});

test('answers can be rated, once', async () => {
  const rate = (id, score) =>
    fetch(`${gateway.url}/v1/feedback`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ id, score }),
    });
  const { text, target } = await ask('smart', 1);
  const { id } = JSON.parse(text);
  const rated = await rate(id, 1);
  assert.equal(rated.status, 200);
  assert.equal((await rated.json()).target, target);
  assert.equal((await rate(id, 1)).status, 400);
  assert.equal((await rate('nobody knows it', 1)).status, 404);
  const { adaptive } = await state('smart');
  assert.equal(adaptive.ratings, 1);
});
