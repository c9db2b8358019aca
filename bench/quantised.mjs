// What fewer bits save and cost, each against the model in F32:
//   node bench/quantised.mjs MODEL TEXT [TOKENS]   memory and predictions; a fifth of the text calibrates, the rest is judged
//   node bench/quantised.mjs --latency SHAPE TEXT [ROUNDS]
//                                                  time to the first token and for each one, of random weights, with
//                                                  quantised activations and with those in F32: medians of 3 rounds
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const program = path.join(process.env.TIDEMILL_BUILD ?? 'build/release', 'tidemill');
const run = (...args) => execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 26, stdio: ['ignore', 'pipe', 'pipe'] });
const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-quantised-'));
const plain = path.join(folder, 'f32.gguf');
const small = path.join(folder, 'small.gguf');
const percent = (x) => `${(100 * x).toFixed(2)} %`;

// Whole lines, so that no character is cut.
function split(text) {
  const lines = readFileSync(text, 'utf8').split('\n');
  const at = Math.floor(lines.length / 5);
  const put = (name, part) => { const file = path.join(folder, name); writeFileSync(file, part.join('\n')); return file; };
  return [put('calibration.txt', lines.slice(0, at)), put('held-out.txt', lines.slice(at))];
}

// What the program says where no types take so few bits; null where they do. Whatever else goes wrong ends the run.
function tooFewBits(quantize) {
  try {
    quantize();
    return null;
  } catch (fault) {
    const said = /[\d.]+ bits a weight are too few.*/.exec(fault.stderr ?? '');
    if (said === null) throw fault;
    return said[0];
  }
}

function predictions(model, text, tokens) {
  const [calibration, heldOut] = split(text);
  run('convert', model, plain, '--type', 'f32');
  const careful = ['--calibrate', calibration, '--calibration-window', '256'];
  console.log('| weights | bits a weight | memory | right next tokens kept | same most likely token | KL mean | KL 99th percentile | bits a byte |');
  console.log('|---|---|---|---|---|---|---|---|');
  for (const [name, args] of [
    ['int8', []],
    ['int8, one scale a row', ['--per-channel']],
    ['at most 8.2 bits, calibrated', ['--bits', '8.2', ...careful]],
    ['at most 7.5 bits, calibrated', ['--bits', '7.5', ...careful]],
    ['at most 7 bits, calibrated', ['--bits', '7', ...careful]],
    ['at most 6.5 bits, calibrated', ['--bits', '6.5', ...careful]],
    ...['q5_1', 'q5_k', 'q4_k', 'q4_0'].flatMap((type) => [
      [type, ['--type', type]],
      [`${type}, calibrated, each weight by itself`, ['--type', type, ...careful, '--no-compensation']],
      [`${type}, calibrated`, ['--type', type, ...careful]],
    ]),
  ]) {
    const refusal = tooFewBits(() => run('quantize', plain, small, ...args));
    if (refusal) {
      console.log(`| ${name} | ${refusal} |||||||`);
      continue;
    }
    const report = JSON.parse(run('eval', small, '--text', heldOut, '--window', '256', '--tokens', tokens, '--against', plain, '--plain', '--json'));
    const { comparison, score, accuracy_kept: kept } = report.text;
    const share = report.subject.weight_bytes / report.reference.weight_bytes;
    console.log(`| ${name} | ${(32 * share).toFixed(2)} | -${percent(1 - share)} | ${percent(kept)} | ${percent(comparison.top1_agreement)} | `
      + `${comparison.kl_mean.toExponential(2)} | ${comparison.kl_p99.toExponential(2)} | ${score.bits_per_byte.toFixed(4)} |`);
  }
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];

// Random weights need no more of a calibration than to be given their types. All models are measured in turn, so that
// what else the machine does meets all of them.
function latency(shape, text, rounds) {
  const [calibration] = split(text);
  run('synth', shape, plain, '--type', 'f32');
  const subjects = [];
  const add = (name, model, args = []) => subjects.push({ name, model, args, first: [], each: [] });
  add('F32', plain);
  for (const [name, args] of [
    ['int8', ['--type', 'int8']],
    ['at most 7 bits', ['--bits', '7', '--calibrate', calibration, '--calibration-tokens', '512', '--no-compensation']],
    ['Q5_1', ['--type', 'q5_1']],
    ['Q4_0', ['--type', 'q4_0']],
  ]) {
    const model = path.join(folder, `${subjects.length}.gguf`);
    run('quantize', plain, model, ...args);
    add(name, model);
    add(`${name}, F32 activations`, model, ['--activations', 'f32']);
  }
  for (let round = 0; round < rounds; ++round) {
    for (const { model, args, first, each } of subjects) {
      const measured = JSON.parse(run('bench', model, '--prefill', '128', '--decode', '32', '--streams', '1', '--json', ...args));
      first.push(measured.ttft_s);
      each.push(1000 / measured.decode_tok_s);
    }
  }
  console.log('| weights | first token of 128, s | a token, ms | less, first token | less, a token | a token, all rounds |');
  console.log('|---|---|---|---|---|---|');
  const base = { first: median(subjects[0].first), each: median(subjects[0].each) };
  for (const { name, first, each } of subjects) {
    console.log(`| ${name} | ${median(first).toFixed(3)} | ${median(each).toFixed(1)} | ${percent(1 - median(first) / base.first)} | `
      + `${percent(1 - median(each) / base.each)} | ${each.map((x) => x.toFixed(1)).join(', ')} |`);
  }
}

const [first, second, third, rounds = '3'] = process.argv.slice(2);
try {
  if (first === '--latency') latency(second, third, Number(rounds));
  else predictions(first, second, third ?? '40000');
} finally {
  rmSync(folder, { recursive: true });
}
