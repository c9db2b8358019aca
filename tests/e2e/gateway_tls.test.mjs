// The gateway under TLS, as clients see it: its certificate replaced while streams run, and those of clients.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { certify, withoutOpenssl } from './certificate.mjs';
import { read, request, stream } from './chaos.mjs';
import { Link } from './link.mjs';
import { Server } from './server.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-tls-'));
after(() => rmSync(folder, { recursive: true }));

const skip = withoutOpenssl();

async function launch(t, server, certificate, ...flags) {
  const gateway = await Server.launch('gateway', '--backend', server.url, '--tls-certificate', certificate.certFile,
    '--tls-key', certificate.keyFile, ...flags);
  t.after(() => gateway.kill());
  return gateway;
}

// The beginning of the answer to a request on a connection of its own. `trust` has the authorities that the client
// knows, and what it shows of itself.
function ask(gateway, trust, [target, body] = ['/ready'], headers = {}) {
  return new Promise((resolve, reject) => {
    const asked = https.request(`${gateway.url}${target}`, {
      agent: false,
      method: body ? 'POST' : 'GET',
      headers: { 'content-type': 'application/json', ...headers },
      ...trust,
    }, resolve);
    asked.on('error', reject);
    asked.end(body && JSON.stringify(body));
  });
}

async function statusOf(answer) {
  await answer.resume().toArray();
  return answer.statusCode;
}

async function ready(gateway, trust) {
  await gateway.until(async () => (await statusOf(await ask(gateway, trust))) === 200);
}

async function fingerprint(gateway, trust) {
  const answer = await ask(gateway, trust);
  const shown = answer.socket.getPeerCertificate().fingerprint256;
  await statusOf(answer);
  return shown;
}

// A stream of which the client has read something.
async function begin(gateway, trust, [target, body]) {
  const answer = (await ask(gateway, trust, [target, { ...body, stream: true }])).setEncoding('utf8');
  assert.equal(answer.statusCode, 200);
  let text = '';
  answer.on('data', (piece) => (text += piece));
  const ended = once(answer, 'end').then(() => text);
  await once(answer, 'data');
  return { answer, ended };
}

test('a certificate is replaced while streams run, and they go on to their end', { skip }, async (t) => {
  const server = await Server.start('--threads', '1');
  t.after(() => server.kill());
  const asked = [0, 1, 2, 3].map((i) => request(i));
  const expected = [];
  for (const each of asked) expected.push(await stream(server.url, each));

  let release;
  const released = new Promise((resolve) => (release = resolve));
  const link = await Link.start(server, async (mark) => {
    if (mark > 2) await released; // what a client hears first is the first token, in the second
    return true;
  });
  t.after(() => link.cut());
  const old = certify(folder, 'old');
  const fresh = certify(folder, 'fresh');
  const shown = { certFile: path.join(folder, 'cert.pem'), keyFile: path.join(folder, 'key.pem') };
  copyFileSync(old.certFile, shown.certFile);
  copyFileSync(old.keyFile, shown.keyFile);
  const gateway = await launch(t, link, shown, '--gateway.stall-timeout', '1h', '--gateway.poll-timeout', '1h');
  await ready(gateway, { ca: old.cert });
  const streams = await Promise.all(asked.map((each) => begin(gateway, { ca: old.cert }, each)));

  const either = { ca: [old.cert, fresh.cert] };
  copyFileSync(fresh.certFile, shown.certFile);
  gateway.child.kill('SIGHUP'); // its key is not there yet
  await gateway.until(() => gateway.output.includes('is not the key of the certificate'));
  assert.equal(await fingerprint(gateway, either), old.fingerprint);
  copyFileSync(fresh.keyFile, shown.keyFile);
  gateway.child.kill('SIGHUP');
  await gateway.until(async () => (await fingerprint(gateway, either)) === fresh.fingerprint);
  await assert.rejects(ask(gateway, { ca: old.cert }), { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });

  for (const { answer } of streams) assert.ok(!answer.readableEnded && !answer.destroyed);
  release();
  for (const [i, { ended }] of streams.entries()) assert.deepEqual(read(await ended), expected[i], JSON.stringify(asked[i]));
  const later = await begin(gateway, { ca: fresh.cert }, asked[0]);
  assert.deepEqual(read(await later.ended), expected[0]);
});

test('clients are served if one of the authorities knows them', { skip }, async (t) => {
  const server = await Server.start('--threads', '1');
  t.after(() => server.kill());
  const link = await Link.start(server);
  t.after(() => link.cut());
  const own = certify(folder, 'gateway');
  const authority = certify(folder, 'authority');
  const known = certify(folder, 'known', { authority });
  const stranger = certify(folder, 'stranger');
  const gateway = await launch(t, link, own, '--gateway.tls-client-ca', authority.certFile);
  const as = (client) => ({ ca: own.cert, cert: client?.cert, key: client?.key });
  await ready(gateway, as(known));

  const asked = ['/v1/completions', { prompt: 'x = ', max_tokens: 2, temperature: 0 }];
  const said = { code: /^(ERR_SSL_.*ALERT.*|ECONNRESET|EPIPE)$/ }; // of the alert, unless the connection's end is seen first
  await assert.rejects(ask(gateway, as(undefined), asked, { 'x-request-id': 'nobody' }), said);
  await assert.rejects(ask(gateway, as(stranger), asked, { 'x-request-id': 'stranger' }), said);
  assert.equal(await statusOf(await ask(gateway, as(known), asked, { 'x-request-id': 'known' })), 200);
  assert.deepEqual(link.posted('x-request-id'), ['known']);
});
