// Fetching a model from a hub on the loopback, and using it when the hub is gone.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { certify, withoutOpenssl } from './certificate.mjs';
import { program, Server } from './server.mjs';

const commit = 'c0ffee'.padEnd(40, '0');
const file = 'coder-Q8_0.gguf';
const content = readFileSync('models/nano-coder.gguf');
const sha256 = createHash('sha256').update(content).digest('hex');
const half = Math.floor(content.length / 2);

// A repository of one model. The hub redirects to where its content lies, as huggingface.co does; `behave` decides what
// becomes of each answer there: 'whole', 'cut' behind its head, or 'hang' in the middle.
class Hub {
  // With a certificate it speaks https, under the names that the certificate is for.
  static async start(certificate) {
    const hub = new Hub();
    hub.downloads = [];
    hub.behave = () => 'whole';
    const listen = async (answer) => {
      const server = certificate ? https.createServer(certificate, answer) : http.createServer(answer);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    };
    hub.storage = await listen((request, response) => hub.send(request, response));
    hub.front = await listen((request, response) => hub.answer(request, response));
    hub.at = (server, name) => (certificate ? `https://${name}` : 'http://127.0.0.1') + `:${server.address().port}`;
    hub.url = hub.at(hub.front, 'hub.example');
    return hub;
  }

  answer(request, response) {
    const json = (body) => response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
    if (request.headers.authorization !== 'Bearer hf_topsecret') {
      response.writeHead(401, { 'X-Error-Code': 'GatedRepo' }).end();
    } else if (request.url === '/api/models/acme/coder/revision/main') {
      json({ id: 'acme/coder', sha: commit });
    } else if (request.url === `/api/models/acme/coder/tree/${commit}?recursive=true`) {
      json([{ type: 'file', path: 'README.md', size: 5, oid: '0'.repeat(40) },
        { type: 'file', path: file, size: content.length, oid: '1'.repeat(40), lfs: { oid: sha256, size: content.length, pointerSize: 133 } }]);
    } else if (request.url === `/acme/coder/resolve/${commit}/${file}`) {
      response.writeHead(302, { Location: `${this.at(this.storage, 'files.example')}/stored?signature=x` }).end();
    } else {
      response.writeHead(404, { 'X-Error-Code': 'RepoNotFound' }).end();
    }
  }

  send(request, response) {
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    this.downloads.push({ from, authorization: request.headers.authorization });
    response.writeHead(from > 0 ? 206 : 200, {
      'Content-Length': content.length - from, ETag: `"${sha256}"`,
      ...(from > 0 && { 'Content-Range': `bytes ${from}-${content.length - 1}/${content.length}` }),
    });
    const how = this.behave(this.downloads.length);
    if (how === 'whole') response.end(content.subarray(from));
    if (how === 'hang') response.write(content.subarray(from, half));
    if (how === 'cut') {
      response.flushHeaders();
      response.socket.end();
    }
  }

  async stop() {
    for (const server of [this.front, this.storage]) {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    }
  }
}

// An HTTP proxy that tunnels for one user alone, to this machine whatever name it is asked for.
class ConnectProxy {
  static async start() {
    const proxy = new ConnectProxy();
    proxy.asked = [];
    proxy.sockets = new Set();  // which the server lets go of
    proxy.server = http.createServer((request, response) => response.writeHead(405).end());
    proxy.server.on('connect', (request, client, head) => {
      proxy.sockets.add(client);
      client.on('error', () => {});
      if (request.headers['proxy-authorization'] !== `Basic ${btoa('tom:pa:ss@word')}`) {
        client.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n');
        return;
      }
      proxy.asked.push(request.url.replace(/:\d+$/, ''));
      const server = net.connect(Number(/\d+$/.exec(request.url)[0]), '127.0.0.1', () => {
        client.write('HTTP/1.1 200 Connection established\r\n\r\n');
        server.write(head);
        client.pipe(server).pipe(client);
      });
      server.on('error', () => client.destroy());
    });
    proxy.server.listen(0, '127.0.0.1');
    await once(proxy.server, 'listening');
    proxy.port = proxy.server.address().port;
    return proxy;
  }

  async stop() {
    for (const socket of this.sockets) socket.destroy();
    this.server.closeAllConnections();
    this.server.close();
    await once(this.server, 'close');
  }
}

const proxyVariables = ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'].flatMap((name) => [name, name.toUpperCase()]);

describe('tidemill pull', { timeout: 300_000 }, () => {
  let folder;
  let hub;
  before(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-'));
    process.env.TIDEMILL_CACHE = path.join(folder, 'cache');
    for (const name of ['HF_HUB_OFFLINE', ...proxyVariables]) delete process.env[name];
    hub = await Hub.start();
    process.env.HF_ENDPOINT = hub.url;
    process.env.HF_TOKEN = 'hf_topsecret';
  });
  after(async () => {
    await hub.stop();
    rmSync(folder, { recursive: true });
  });

  const run = (...args) => {
    const done = spawnSync(program, args, { input: '', encoding: 'utf8', maxBuffer: 1 << 26 });
    return { code: done.status, out: done.stdout, err: done.stderr };
  };
  // Beside the hub, which answers from this process.
  const start = (...args) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = { out: '', err: '' };
    child.stdout.setEncoding('utf8').on('data', (text) => { said.out += text; });
    child.stderr.setEncoding('utf8').on('data', (text) => { said.err += text; });
    return { child, done: once(child, 'close').then(([code]) => ({ code, ...said })) };
  };
  const part = () => path.join(process.env.TIDEMILL_CACHE, 'models--acme--coder', 'blobs', `${sha256}.part`);

  test('says what it would fetch, and who may not', async () => {
    const dry = await start('pull', 'hf:acme/coder', '--dry-run').done;
    assert.equal(dry.code, 0, dry.err);
    assert.match(dry.out, /11\.1 MiB +coder-Q8_0\.gguf\n.* 1 file of 11\.1 MiB, 11\.1 MiB of it to be fetched/);
    process.env.HF_TOKEN = '';
    const refused = await start('pull', 'hf:acme/coder').done;
    process.env.HF_TOKEN = 'hf_topsecret';
    assert.equal(refused.code, 1);
    assert.match(refused.err, /accept its licence at http:\/\/127\.0\.0\.1:\d+\/acme\/coder, and set HF_TOKEN/);
    assert.equal((await start('pull', 'hf:acme/none').done).code, 1);
    assert.equal(run('pull', 'hf:acme').code, 2);
    assert.equal(run('pull').code, 2);
    const missing = run('complete', '--prompt', 'x', '-m', 'hf:acme/coder');
    assert.equal(missing.code, 1);
    assert.match(missing.err, /tidemill pull hf:acme\/coder/);
    assert.equal(hub.downloads.length, 0);
  });

  test('goes on after Ctrl-C and after a connection that breaks, and checks what came', async () => {
    hub.behave = () => 'hang';
    const first = start('pull', 'hf:acme/coder:q8_0');
    const size = () => { try { return statSync(part()).size; } catch { return 0; } };
    while (size() < half && first.child.exitCode === null) await new Promise(setImmediate);
    first.child.kill('SIGINT');
    const stopped = await first.done;
    assert.equal(stopped.code, 130, stopped.err);
    assert.match(stopped.err, /the same command goes on/);

    hub.behave = (count) => (count === 2 ? 'cut' : 'whole');
    const fetched = await start('pull', 'hf:acme/coder:q8_0', '--json').done;
    assert.equal(fetched.code, 0, fetched.err);
    const body = JSON.parse(fetched.out);
    assert.deepEqual([body.model, body.commit, body.bytes], ['hf:acme/coder:q8_0', commit, content.length]);
    assert.deepEqual(body.files, [{ path: file, size: content.length, sha256, cached: false }]);
    assert.ok(readFileSync(body.path).equals(content));
    assert.match(fetched.err, /trying again in 1 s/);
    assert.ok(!fetched.err.includes('\r'), fetched.err);
    assert.deepEqual(hub.downloads.map(({ from }) => from), [0, half, half]);
    assert.ok(hub.downloads.every(({ authorization }) => authorization === undefined));
    assert.ok(![stopped, fetched].some(({ out, err }) => (out + err).includes('topsecret')));

    const again = await start('pull', 'hf:acme/coder').done;
    assert.equal(again.code, 0, again.err);
    assert.match(again.out, /0 B of it fetched now/);
    assert.equal(hub.downloads.length, 3);
  });

  // Nothing else would reach these names.
  test('goes through a proxy', { skip: withoutOpenssl() }, async (t) => {
    const certificate = certify(folder, 'hub', { names: ['DNS:hub.example', 'DNS:files.example'] });
    const [far, proxy] = [await Hub.start(certificate), await ConnectProxy.start()];
    t.after(() => Promise.all([far.stop(), proxy.stop()]));
    const pull = async (variables) => {
      const set = { HF_ENDPOINT: far.url, SSL_CERT_FILE: certificate.certFile, TIDEMILL_CACHE: path.join(folder, 'far'), ...variables };
      const before = { ...process.env };
      Object.assign(process.env, set);
      const done = start('pull', 'hf:acme/coder').done;
      for (const name of Object.keys(set)) {
        if (name in before) process.env[name] = before[name];
        else delete process.env[name];
      }
      return done;
    };
    const unknown = await pull({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` });
    assert.equal(unknown.code, 2, unknown.err);
    assert.match(unknown.err, /the proxy 127\.0\.0\.1:\d+ \(HTTPS_PROXY\) asks for a user and a password \(407\): set HTTPS_PROXY to/);
    const socks = await pull({ https_proxy: `socks5://tom:secret@127.0.0.1:${proxy.port}` });
    assert.match(socks.err, /https_proxy does not name a proxy: proxies of the scheme 'socks5' are not supported/);
    assert.ok(!socks.err.includes('secret'), socks.err);
    assert.deepEqual(proxy.asked, []);

    far.behave = (count) => (count === 1 ? 'cut' : 'whole');
    const fetched = await pull({ HTTPS_PROXY: `http://tom:pa%3Ass%40word@127.0.0.1:${proxy.port}` });
    assert.equal(fetched.code, 0, fetched.err);
    assert.match(fetched.err, /trying again in 1 s/);
    assert.ok(!/pa:ss|pa%3A|topsecret/.test(fetched.out + fetched.err), fetched.err);
    assert.ok(readFileSync(path.join(folder, 'far', 'models--acme--coder', 'blobs', sha256)).equals(content));
    assert.deepEqual([...new Set(proxy.asked)], ['hub.example', 'files.example']);
    assert.equal(far.downloads.length, 2);
    assert.ok(far.downloads.every(({ authorization }) => authorization === undefined));
  });

  test('is used by name, without the hub', async () => {
    await hub.stop();
    hub = { stop: async () => {} };
    const listed = JSON.parse(run('pull', '--list', '--json').out);
    assert.deepEqual(listed.models.map(({ repository, revisions, bytes }) => [repository, revisions, bytes]), [['acme/coder', ['main'], content.length]]);
    const offline = run('pull', '--offline', 'hf:acme/coder');
    assert.equal(offline.code, 0, offline.err);
    assert.ok(offline.out.endsWith(`/${file}\n`), offline.out);
    const command = ['complete', '--prompt', 'def f(', '--max-tokens', '8', '--temperature', '0'];
    const named = run(...command, '-m', 'hf:acme/coder');
    assert.equal(named.code, 0, named.err);
    assert.equal(named.out, run(...command).out);
    for (const reader of [['inspect', 'hf:acme/coder', '--json'], ['tokenize', '--text', 'x', '-m', 'hf:acme/coder:Q8_0'],
      ['pack', 'hf:acme/coder', path.join(folder, 'packed.gguf')], ['convert', 'hf:acme/coder', path.join(folder, 'converted.gguf')]]) {
      const read = run(...reader);
      assert.equal(read.code, 0, `${reader}: ${read.err}`);
    }
    const server = await Server.start('hf:acme/coder');
    const answer = await fetch(`${server.url}/v1/completions`, { method: 'POST', body: JSON.stringify({ prompt: 'def f(', max_tokens: 2 }) });
    assert.equal((await answer.json()).model, 'coder-Q8_0');
    assert.equal((await server.stop()).code, 0);
    const other = run('serve', '--port', '0', 'hf:acme/other@v2');
    assert.equal(other.code, 1);
    assert.match(other.err, /tidemill pull hf:acme\/other@v2/);
  });
});
