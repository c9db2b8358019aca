// Many streams through the HTTP server at once: tokens a second in all, and the time to the first token.
//   node tests/peers/streams.mjs MODEL.gguf|SHAPE [TYPE] [STREAMS] [PROMPT_TOKENS] [OUTPUT_TOKENS]
//
// Each stream sends a prompt of its own (token ids, so that random models of any vocabulary will do) to /v1/completions and
// reads every token; all start together. Nothing of the prompts repeats, so the prefix cache does not help.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { program, Server } from '../e2e/server.mjs';

const [target = 'llama-3.2-1b', type = 'q4_0', ...counts] = process.argv.slice(2);
const [streams = 16, promptTokens = 110, outputTokens = 64] = counts.map(Number);
const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];

async function stream(base, seed) {
  const prompt = Array.from({ length: promptTokens }, (_, i) => 300 + ((i * 7919 + seed * 104729) % 20000));
  const start = performance.now();
  const response = await fetch(`${base}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt, max_tokens: outputTokens, temperature: 0, ignore_eos: true, stream: true, stream_options: { include_usage: true } }),
  });
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`);
  let first;
  let text = '';
  for await (const bytes of response.body) {
    first ??= performance.now();
    text += Buffer.from(bytes).toString('utf8');
  }
  const usage = text.split('\n').filter((line) => line.includes('"completion_tokens"')).map((line) => JSON.parse(line.slice(6)).usage).at(-1);
  if (usage?.completion_tokens !== outputTokens) throw new Error(`${usage?.completion_tokens} tokens came, ${outputTokens} were asked for`);
  return (first - start) / 1000;
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-streams-'));
let server;
try {
  let model = target;
  if (!existsSync(model)) {
    model = path.join(folder, 'model.gguf');
    execFileSync(program, ['synth', target, model, '--type', type]);
  }
  server = await Server.start('--model', model);
  const base = server.url;
  await stream(base, 999);
  const rates = [];
  const firsts = [];
  for (let round = 0; round < 3; round++) {
    const start = performance.now();
    firsts.push(median(await Promise.all(Array.from({ length: streams }, (_, i) => stream(base, round * 100 + i)))));
    rates.push((streams * outputTokens) / ((performance.now() - start) / 1000));
  }
  console.log(`${streams} streams of ${promptTokens} + ${outputTokens} tokens over HTTP: ${median(rates).toFixed(1)} tok/s in all, first token after ${median(firsts).toFixed(2)} s (medians of 3 rounds)`);
} finally {
  await server?.stop();
  rmSync(folder, { recursive: true });
}
