// What quantised arithmetic costs: Tidemill's and llama.cpp's, each against its own run on the same weights
// dequantised to F32, on the same tokens.
//   node tests/peers/accuracy.mjs MODEL.gguf:TYPE:TEXT | SHAPE:TYPE[:OUTLIER_CHANNELS] ...
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

// Both are probabilities of one position, indexed by token.
function compare(reference, quantised) {
  let divergence = 0;
  let [first, second, other] = [0, -1, 0];
  for (let token = 0; token < reference.length; token++) {
    const p = reference[token];
    if (p > 0) divergence += p * Math.log(p / Math.max(quantised[token], 1e-45));
    if (p > reference[first]) [first, second] = [token, first];
    else if (token !== first && (second < 0 || p > reference[second])) second = token;
    if (quantised[token] > quantised[other]) other = token;
  }
  return { divergence, agrees: first === other, margin: Math.log(reference[first] / reference[second]) };
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

console.log('| model | type | engine | top-1 agreement, % | KL mean | KL 99th percentile | top-1 without near ties, % | near ties, % |');
console.log('|---|---|---|---|---|---|---|---|');
try {
  for (const item of process.argv.slice(2)) await judge(item);
} finally {
  rmSync(folder, { recursive: true });
}
