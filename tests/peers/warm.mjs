// How long the first token takes behind 4,096 tokens: cold, from the prefix cache, and after a restart with --prefix-file.
//
//   node tests/peers/warm.mjs build/release/tidemill MODEL.gguf
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const [, , program, model] = process.argv;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tidemill-warm-'));
const file = path.join(folder, 'prefixes');

async function start() {
  const child = spawn(program, ['serve', '--port', '0', '--model', model, '--prefix-file', file, '--max-context', '8192'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  const url = await new Promise((res, rej) => {
    const take = (c) => { out += c; const m = out.match(/(http:\/\/127\.0\.0\.1:\d+)[\s\S]*curl /); if (m) res(m[1]); };
    child.stdout.on('data', take); child.stderr.on('data', take); child.on('exit', () => rej(new Error(out)));
  });
  return { child, url, log: () => out };
}
const prefix = Array.from({ length: 4096 }, (_, i) => 300 + (i * 7919) % 100000);
async function first(url, last) {
  const t = performance.now();
  const r = await fetch(`${url}/v1/completions`, { method: 'POST', body: JSON.stringify({ prompt: [...prefix, ...last], max_tokens: 2, temperature: 0, stream: true, ignore_eos: true }) });
  const reader = r.body.getReader();
  await reader.read();
  const ms = performance.now() - t;
  while (!(await reader.read()).done);
  return ms;
}
async function stop(server) {
  server.child.removeAllListeners('exit');
  server.child.kill('SIGTERM');
  await new Promise((resolve) => server.child.on('exit', resolve));
}
async function five(url, from) {
  const times = [];
  for (let i = 0; i < 5; ++i) times.push(await first(url, [from + i, 501, 502]));
  return times.sort((a, b) => a - b)[2];
}

let server = await start();
const cold = await first(server.url, [400, 401, 402]);
const warm = await five(server.url, 500);
await stop(server);
const bytes = fs.statSync(file).size;
server = await start();
const firstAfter = await first(server.url, [399, 501, 502]);
const after = await five(server.url, 600);
await stop(server);
fs.rmSync(folder, { recursive: true });
const ms = (time) => `${time.toFixed(0)} ms (1/${(cold / time).toFixed(0)})`;
console.log(`cold ${cold.toFixed(0)} ms, warm ${ms(warm)}, after a restart ${ms(firstAfter)} and then ${ms(after)}; the file has ${bytes} bytes`);
