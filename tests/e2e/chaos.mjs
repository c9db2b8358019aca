// Streams through a gateway while its servers are killed: each must come out as it does undisturbed.
import { Server } from './server.mjs';

// Small and reproducible (mulberry32).
export function random(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const beginnings = ['def fibonacci(n):', 'import os\n', 'class Stack:\n', 'for i in range(', 'def quicksort(', '# Read a file\n'];

// The i-th request: greedy ones and seeded ones, chats, completions and other dialects, one choice and two.
export function request(i, tokens = 48) {
  const text = `${beginnings[i % beginnings.length]} # ${i}\n`;
  const sampling = i % 2 === 0 ? { temperature: 0 } : { temperature: 1, seed: i };
  switch (i % 4) {
    case 0:
      return ['/v1/chat/completions', { messages: [{ role: 'user', content: text }], max_tokens: tokens, ...sampling }];
    case 1:
      return ['/v1/completions', { prompt: text, max_tokens: tokens, n: 2, ...sampling }];
    case 2:
      return ['/v1/messages', { model: 'nano-coder', messages: [{ role: 'user', content: text }], max_tokens: tokens, temperature: 0 }];
    default:
      return ['/v1/responses', { input: text, max_output_tokens: tokens, store: false, temperature: 0 }];
  }
}

// What a stream says, free of how it was cut: the text of each choice, why it ended, and whether it said so.
export function merge(events) {
  const texts = {};
  const reasons = {};
  let done = false;
  let error = null;
  let usage = null;
  for (const { event, data } of events) {
    if (data === '[DONE]') {
      done = true;
      continue;
    }
    const body = JSON.parse(data);
    if (body.error || event === 'error') error = body;
    for (const choice of body.choices ?? []) {
      texts[choice.index] = (texts[choice.index] ?? '') + (choice.text ?? choice.delta?.content ?? '');
      if (choice.finish_reason) reasons[choice.index] = choice.finish_reason;
    }
    if (body.type === 'content_block_delta') texts[body.index] = (texts[body.index] ?? '') + body.delta.text;
    if (body.type === 'message_delta') [reasons[0], usage] = [body.delta.stop_reason, body.usage];
    if (body.type === 'message_stop') done = true;
    if (body.type === 'response.output_text.delta') texts[0] = (texts[0] ?? '') + body.delta;
    if (body.type === 'response.completed' || body.type === 'response.incomplete') {
      done = true;
      reasons[0] = body.response.status;
      usage = body.response.usage;
      texts.whole = body.response.output.map((item) => item.content?.map((part) => part.text).join('')).join('');
    }
  }
  // Cached tokens differ from server to server, and say nothing of the text.
  const tokens = usage && { output: usage.output_tokens };
  return { texts, reasons, done, error, tokens };
}

// What the text of a whole stream says.
export function read(text) {
  const events = [];
  for (const block of text.split('\n\n')) {
    const lines = block.split('\n').filter((line) => line !== '' && !line.startsWith(':'));
    if (lines.length === 0) continue;
    const field = (name) => lines.filter((l) => l.startsWith(`${name}: `)).map((l) => l.slice(name.length + 2)).join('\n');
    events.push({ event: field('event'), data: field('data') });
  }
  if (text.includes('tidemill {')) throw new Error(`marks reached the client:\n${text}`);
  return merge(events);
}

// Streams one request. `onBytes` is told of every piece that arrives.
export async function stream(url, [path, body], onBytes = () => {}, headers = {}) {
  const response = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ ...body, stream: true }),
  });
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${await response.text()}`);
  let text = '';
  const decoder = new TextDecoder();
  for await (const piece of response.body) {
    text += decoder.decode(piece, { stream: true });
    onBytes(piece.length);
  }
  return read(text);
}

// Model servers that can be killed and come up again at the same address.
export class Servers {
  static async start(count, ...flags) {
    const servers = new Servers();
    servers.flags = flags;
    servers.all = await Promise.all(Array.from({ length: count }, () => Server.start(...flags)));
    servers.kills = 0;
    servers.coming = new Set();
    return servers;
  }

  get urls() {
    return this.all.map((server) => server.url);
  }

  // Kills one of those that are up, and starts it again; false if it would be the last one.
  kill(draw) {
    const up = this.all.map((_, i) => i).filter((i) => !this.coming.has(i));
    if (up.length < 2) return false;
    const i = up[Math.floor(draw() * up.length)];
    const old = this.all[i];
    this.kills += 1;
    this.coming.add(i);
    old.kill()
      .then(() => Server.start('--port', new URL(old.url).port, ...this.flags))
      .then((fresh) => {
        this.all[i] = fresh;
        this.coming.delete(i);
        if (this.stopped) fresh.kill();
      })
      .catch((error) => (this.failure = error));
    return true;
  }

  stop() {
    this.stopped = true;
    return Promise.all(this.all.map((server) => server.kill()));
  }
}

export function startGateway(urls, ...flags) {
  return Server.launch('gateway', ...urls.flatMap((url) => ['--backend', url]), ...flags);
}

// Runs `work` for 0 .. count - 1, so many at a time.
export async function inParallel(count, width, work) {
  let next = 0;
  const results = new Array(count);
  const worker = async () => {
    while (next < count) {
      const i = next++;
      results[i] = await work(i);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}
