// Greedy tokens of Tidemill judged by llama.cpp, on synthesised files of every architecture and weight type and on the
// models named as arguments.
//   node tests/peers/greedy.mjs [MODEL.gguf | SHAPE:TYPE ...]
//
// Two programs that round differently part at the first near tie, and from there everything differs. So llama.cpp is
// given Tidemill's own tokens, and says at each place how far Tidemill's choice lies below its own best one. The unit is
// the standard deviation of its logits over the vocabulary: a wrong computation is off by about a whole unit or more,
// whatever the model.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const program = process.env.TIDEMILL_PROGRAM ?? 'build/release/tidemill';
const run = (args, input) => execFileSync(program, args, { input, encoding: 'utf8', maxBuffer: 1 << 28 });
const prompt = 'The tide turns the mill, and the mill grinds the grain. 3 < 42; naïve?\n';
const types = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k',
  'iq4_nl', 'iq4_xs', 'mxfp4'];
const tiny = ['llama-tiny', 'qwen2-tiny', 'qwen3-tiny', 'granite-tiny', 'phi3-tiny', 'gemma2-tiny', 'gemma3-tiny'];
// An expert that is chosen by a hair is another one in the other program, and then everything differs: mixtures are
// judged where neither rounds, and where weights are quantised with all experts in use, so that none is chosen. That
// is not for DeepSeek V3: llama.cpp wants some groups of experts left out.
const mixtures = ['mixtral-tiny', 'qwen2moe-tiny', 'qwen3moe-tiny', 'gpt-oss-tiny', 'deepseek2-tiny', 'deepseek3-tiny'];
const mixtureTypes = ['q8_0', 'q4_0', 'mxfp4'];
// llama.cpp rounds the inputs of a product to the type of the weights, or to 8 bits where the weights are quantised.
const allowed = { f32: 0.001, f16: 0.01, bf16: 0.02 };
const allowedQuantised = 0.2;
// It takes GELU from a table in half precision.
const allowedWithGelu = 0.01;

function regret(probabilities, token) {
  let best = -Infinity;
  let sum = 0;
  let squares = 0;
  for (const probability of probabilities.values()) {
    const logit = Math.log(Math.max(probability, Number.MIN_VALUE));
    best = Math.max(best, logit);
    sum += logit;
    squares += logit ** 2;
  }
  const mean = sum / probabilities.size;
  return (best - Math.log(probabilities.get(token) ?? 0)) / Math.sqrt(squares / probabilities.size - mean ** 2);
}

// In a file that was synthesised: how many experts there are and how many are used are 32 bits each, behind their keys
// and the keys' types.
function useAllExperts(file) {
  const bytes = readFileSync(file);
  const place = (key) => bytes.indexOf(key) + key.length + 4;
  bytes.writeUInt32LE(bytes.readUInt32LE(place('.expert_count')), place('.expert_used_count'));
  writeFileSync(file, bytes);
}

async function judge(name, type, model, count) {
  const peer = await Peer.open(model, { contextSize: 256, exact: true });
  const ids = JSON.parse(run(['tokenize', '--model', model, '--json', '--no-bos'], prompt));
  const sameTokens = JSON.stringify(ids) === JSON.stringify([...peer.model.tokenize(prompt)]);
  const start = JSON.parse(run(['tokenize', '--model', model, '--json'], prompt));
  const made = JSON.parse(run(['complete', '--model', model, '--prompt', prompt, '--max-tokens', `${count}`,
    '--temperature', '0', '--ignore-eos', '--kv-type', 'f32', '--json'])).tokens;
  const distributions = await peer.distributions([...start, ...made], made.length);
  await peer.close();
  const regrets = made.map((token, i) => regret(distributions[i], token));
  const agreed = regrets.filter((r) => r === 0).length;
  const worst = Math.max(...regrets);
  const limit = Math.max(allowed[type] ?? allowedQuantised, name.startsWith('gemma') ? allowedWithGelu : 0);
  const good = made.length === count && sameTokens && worst <= limit;
  console.log(`${good ? 'ok    ' : 'FAILED'} ${name.padEnd(14)} ${type.padEnd(6)} ${agreed} of ${count} choices agree, the `
    + `worst is ${worst.toFixed(4)} below llama.cpp's (${limit} allowed)${sameTokens ? '' : '; THE PROMPT\'S TOKENS DIFFER'}`);
  return good;
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-peers-'));
const model = path.join(folder, 'model.gguf');
const named = process.argv.slice(2);
const wanted = named.length > 0 ? named : [...tiny.flatMap((shape) => types.map((type) => `${shape}:${type}`)),
  ...mixtures.map((shape) => `${shape}:f32`),
  ...mixtures.slice(0, -1).flatMap((shape) => mixtureTypes.map((type) => `${shape}:${type}`)), 'models/nano-coder.gguf'];
let failed = 0;
try {
  for (const item of wanted) {
    if (item.endsWith('.gguf')) {
      failed += !await judge(path.basename(item, '.gguf'), 'file', item, 32);
      continue;
    }
    const [shape, type = 'q8_0'] = item.split(':');
    run(['synth', shape, model, '--type', type]);
    if (mixtures.includes(shape) && type !== 'f32') useAllExperts(model);
    failed += !await judge(shape, type, model, [...tiny, ...mixtures].includes(shape) ? 48 : 16);
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(failed ? 1 : 0);
