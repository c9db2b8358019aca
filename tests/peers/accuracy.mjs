// What quantised arithmetic costs: Tidemill's and llama.cpp's, each against its own run on the same weights
// dequantised to F32, on the same tokens.
//   node tests/peers/accuracy.mjs [MODEL.gguf:TYPE:TEXT | SHAPE:TYPE[:OUTLIER_CHANNELS] ...]
//
// A named file is first rewritten in TYPE and reads TEXT; a shape is synthesised and reads random tokens.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const build = process.env.TIDEMILL_BUILD ?? 'build/release';
const run = (program, ...args) => execFileSync(path.join(build, program), args, { encoding: 'utf8', maxBuffer: 1 << 28 });
const window = 128;
const tokens = { text: process.env.ACCURACY_TOKENS ?? '4096', random: process.env.ACCURACY_RANDOM_TOKENS ?? '512' };
const tie = 0.05;

// Both are maps from token to probability, of one position. Probabilities that F32 cannot hold are left out.
function compare(reference, quantised) {
  let divergence = 0;
  let first = [-1, 0];
  let second = 0;
  for (const [token, p] of reference) {
    if (p > first[1]) [first, second] = [[token, p], first[1]];
    else if (p > second) second = p;
    const q = quantised.get(token) ?? 0;
    if (p > 0) divergence += p * Math.log(p / Math.max(q, 1e-45));
  }
  let other = [-1, 0];
  for (const item of quantised) if (item[1] > other[1]) other = item;
  return { divergence, agrees: first[0] === other[0], margin: Math.log(first[1] / second) };
}

const mean = (xs) => xs.reduce((a, b) => a + b, 0) / xs.length;
const quantile = (xs, share) => xs.toSorted((a, b) => a - b)[Math.floor(share * (xs.length - 1))];

async function judgePeer(model, plain, windows) {
  const options = { contextSize: window, batchSize: window, exact: true };
  const [quantised, reference] = [await Peer.open(model, options), await Peer.open(plain, options)];
  const all = [];
  for (const tokens of windows) {
    const [a, b] = [await reference.predictions(tokens), await quantised.predictions(tokens)];
    for (let i = 0; i < tokens.length; i++) all.push(compare(a[i], b[i]));
  }
  await quantised.close();
  await reference.close();
  const clear = all.filter((one) => one.margin >= tie);
  return {
    positions: all.length,
    kl_mean: mean(all.map((one) => one.divergence)),
    kl_p99: quantile(all.map((one) => one.divergence), 0.99),
    top1_agreement: mean(all.map((one) => +one.agrees)),
    ties_share: 1 - clear.length / all.length,
    top1_agreement_without_ties: mean(clear.map((one) => +one.agrees)),
  };
}

function print(name, type, engine, result) {
  const percent = (x) => (100 * x).toFixed(2).padStart(6);
  console.log(`| ${name} | ${type} | ${engine} | ${percent(result.top1_agreement)} | ${result.kl_mean.toExponential(2)} | `
    + `${result.kl_p99.toExponential(2)} | ${percent(result.top1_agreement_without_ties)} | ${percent(result.ties_share)} |`);
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-accuracy-'));
const model = path.join(folder, 'model.gguf');
const plain = path.join(folder, 'f32.gguf');
const list = path.join(folder, 'windows.json');

async function judge(item) {
  const [source, type, rest] = item.split(':');
  const isFile = source.endsWith('.gguf');
  if (isFile) run('bench_requantize', source, model, type);
  else run('tidemill', 'synth', source, model, '--type', type, '--outlier-channels', rest ?? '0');
  run('bench_requantize', model, plain, 'f32');
  const input = isFile ? ['--text', rest, '--tokens', tokens.text] : ['--random-tokens', '1', '--tokens', tokens.random];
  const ours = JSON.parse(run('bench_accuracy', model, ...input, '--window', `${window}`, '--tie', `${tie}`,
    '--windows-out', list, '--json'));
  const name = isFile ? path.basename(source, '.gguf') : `${source}, ${rest ?? 0} outlier channels`;
  print(name, type, 'Tidemill', ours);
  print(name, type, 'llama.cpp', await judgePeer(model, plain, JSON.parse(readFileSync(list, 'utf8'))));
}

const types = ['q8_0', 'q4_0', 'q4_k'];
const named = process.argv.slice(2);
const shapes = ['qwen3-0.6b'].flatMap((shape) => [0, 4].flatMap((outliers) => types.map((type) => `${shape}:${type}:${outliers}`)));
console.log('| model | type | engine | top-1 agreement, % | KL mean | KL 99th percentile | top-1 without near ties, % | near ties, % |');
console.log('|---|---|---|---|---|---|---|---|');
try {
  for (const item of named.length > 0 ? named : shapes) await judge(item);
} finally {
  rmSync(folder, { recursive: true });
}
