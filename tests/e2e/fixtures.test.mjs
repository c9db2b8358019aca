// What other tests stand on: the line that they hold or cut, and their Redis.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { Link } from './link.mjs';
import { freePort, Redis } from './redis.mjs';

const known = ': tidemill {"choice"'; // by which a mark is known
const mark = `${known}:0}\n\n`;

// A server that says each of `pieces` once its client has all of those before, which no TCP joins then.
async function serve(t, pieces) {
  const listener = net.createServer(async (socket) => {
    socket.on('error', () => {}); // as the line is cut
    try {
      for (const piece of pieces) {
        socket.write(piece);
        await once(socket, 'data');
      }
      socket.end();
    } catch {
      socket.destroy();
    }
  });
  await once(listener.listen(0, '127.0.0.1'), 'listening');
  t.after(() => listener.close());
  return { url: `http://127.0.0.1:${listener.address().port}` };
}

// What comes over a line on which `atMark` holds and cuts.
async function hear(t, pieces, atMark) {
  const link = await Link.start(await serve(t, pieces), atMark);
  t.after(() => link.cut());
  const client = net.connect(new URL(link.url).port, '127.0.0.1').setEncoding('latin1');
  client.on('error', () => {}); // as the line is cut
  const ended = once(client, 'close');
  let heard = '';
  let had = 0;
  client.on('data', (text) => {
    heard += text;
    for (; had < pieces.length && heard.length >= pieces.slice(0, had + 1).join('').length; ++had) client.write('.');
  });
  await ended;
  return heard;
}

test('a mark that comes in two pieces is one', async (t) => {
  for (let at = 1; at < mark.length; ++at) {
    const pieces = [`data: 1\n\n${mark.slice(0, at)}`, `${mark.slice(at)}data: 2\n\n${mark}`];
    const seen = [];
    assert.equal(await hear(t, pieces, (n) => seen.push(n)), pieces.join(''));
    assert.deepEqual(seen, [1, 2], `the first piece has ${at} bytes of it`);
    const before = await hear(t, pieces, (n) => n < 1);
    if (at < known.length) assert.ok(before.startsWith(pieces[0]), before);
    assert.ok(!before.includes(known), before);
  }
});

const withoutRedis = Redis.installed() ? false : 'redis-server is not installed';

test('a Redis whose port somebody else has taken is started at another', { skip: withoutRedis }, async (t) => {
  const taken = net.createServer((socket) => socket.destroy());
  await once(taken.listen(0, '127.0.0.1'), 'listening');
  t.after(() => taken.close());
  const ports = [taken.address().port];
  const redis = await Redis.start(() => ports.shift() ?? freePort());
  t.after(() => redis.kill());
  const port = Number(new URL(redis.url).port);
  assert.notEqual(port, taken.address().port);
  const client = net.connect(port, '127.0.0.1').setEncoding('latin1');
  client.end('PING\r\n');
  assert.equal((await client.toArray()).join(''), '+PONG\r\n');
});
