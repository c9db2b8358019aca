// Embeddings and scores of Tidemill beside llama.cpp's, on synthesised encoders of every weight type.
//   node tests/peers/encode.mjs [SHAPE:TYPE ...]
//
// Tidemill gives the second text of a reranker's pair the second token type, as BERT was trained; llama.cpp gives all
// tokens the first. Rerankers are compared on a file in which both types are the same.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openSync, readSync, rmSync, writeSync, closeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { readGgufFileInfo } from 'node-llama-cpp';
import { program, Server } from '../e2e/server.mjs';
import { EncoderPeer } from './llama.mjs';

const run = (args, input) => execFileSync(program, args, { input, encoding: 'utf8', maxBuffer: 1 << 28 });
const types = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q2_k', 'q3_k', 'q4_k', 'q5_k', 'q6_k',
  'iq4_nl', 'iq4_xs', 'mxfp4'];
const texts = [
  'mill',
  'The tide turns the mill, and the mill grinds the grain. 3 < 42?',
  Array.from({ length: 60 }, (_, i) => `of all ${i} things`).join(' '), // some hundreds of tokens
];
const query = texts[1];
const poolings = { mean: 1, cls: 2 };
// 1 less the cosine; of scores the difference of logits. llama.cpp rounds the inputs of a product to the type of the
// weights, or to 8 bits where the weights are quantised.
const allowed = { f32: 1e-6, f16: 1e-5, bf16: 1e-4 };
const allowedQuantised = 5e-4;
const allowedLogit = { f32: 1e-3, f16: 0.005, bf16: 0.02 };
const allowedLogitQuantised = 0.05;

async function post(server, where, body) {
  const response = await fetch(`${server.url}${where}`, { method: 'POST', body: JSON.stringify(body) });
  if (response.status !== 200) throw new Error(`${where}: ${response.status} ${await response.text()}`);
  return response.json();
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, v, i) => sum + v * y[i], 0);
  return a.length === b.length ? dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b)) : NaN;
}

function edit(model, change) {
  const file = openSync(model, 'r+');
  try {
    change(file);
  } finally {
    closeSync(file);
  }
}

// A file says how hidden states become one embedding.
function setPooling(model, pooling) {
  edit(model, (file) => {
    const head = Buffer.alloc(4096);
    readSync(file, head, 0, head.length, 0);
    const key = 'bert.pooling_type';
    const at = head.indexOf(key);
    if (at < 0 || head.readUInt32LE(at + key.length) !== 4) throw new Error(`${model} has no ${key} of 32 bits`);
    head.writeUInt32LE(pooling, at + key.length + 4);
    writeSync(file, head, at, key.length + 8, at);
  });
}

async function makeTypesTheSame(model) {
  const { fullTensorInfo } = await readGgufFileInfo(model);
  const tensor = fullTensorInfo.find(({ name }) => name === 'token_types.weight');
  const row = Buffer.alloc(4 * Number(tensor.dimensions[0]));
  edit(model, (file) => {
    readSync(file, row, 0, row.length, Number(tensor.fileOffset));
    writeSync(file, row, 0, row.length, Number(tensor.fileOffset) + row.length);
  });
}

function report(good, name, type, words) {
  console.log(`${good ? 'ok    ' : 'FAILED'} ${name.padEnd(16)} ${type.padEnd(6)} ${words}`);
  return good;
}

async function judgeEmbeddings(name, type, model) {
  const server = await Server.start('--model', model);
  const peer = await EncoderPeer.open(model);
  try {
    const { data } = await post(server, '/v1/embeddings', { input: texts });
    let worst = 0;
    let sameTokens = true;
    for (const [i, text] of texts.entries()) {
      const ids = JSON.parse(run(['tokenize', '--model', model, '--json'], text));
      sameTokens &&= JSON.stringify(ids.slice(1, -1)) === JSON.stringify([...peer.model.tokenize(text)]);
      const distance = 1 - cosine(data[i].embedding, await peer.embed(ids));
      if (!(distance <= worst)) worst = distance; // NaN too
    }
    const limit = allowed[type] ?? allowedQuantised;
    return report(worst <= limit && sameTokens, name, type, `of ${texts.length} embeddings the worst is ${worst.toExponential(1)} `
      + `from llama.cpp's in cosine (${limit} allowed)${sameTokens ? '' : '; THE TEXTS\' TOKENS DIFFER'}`);
  } finally {
    await peer.close();
    await server.stop();
  }
}

async function judgeScores(name, type, model) {
  await makeTypesTheSame(model);
  const server = await Server.start('--model', model);
  const peer = await EncoderPeer.open(model, { ranks: true });
  try {
    const { results } = await post(server, '/v1/rerank', { query, documents: texts });
    const logit = (p) => Math.log(p / (1 - p));
    let worst = 0;
    for (const { index, relevance_score: score } of results) {
      const off = Math.abs(logit(score) - logit(await peer.rank(query, texts[index])));
      if (!(off <= worst)) worst = off;
    }
    const limit = allowedLogit[type] ?? allowedLogitQuantised;
    return report(worst <= limit && results.length === texts.length, name, type,
      `of ${results.length} scores the worst is ${worst.toExponential(1)} from llama.cpp's as a logit (${limit} allowed)`);
  } finally {
    await peer.close();
    await server.stop();
  }
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-encode-'));
const named = process.argv.slice(2);
const wanted = named.length > 0 ? named : ['bert-tiny', 'rerank-tiny'].flatMap((shape) => types.map((type) => `${shape}:${type}`));
let failed = 0;
try {
  for (const item of wanted) {
    const [shape, type = 'q8_0'] = item.split(':');
    const model = path.join(folder, `${shape}-${type}.gguf`);
    run(['synth', shape, model, '--type', type]);
    if (shape.includes('rerank')) {
      failed += !await judgeScores(shape, type, model);
    } else if (type === 'f32') {
      for (const [pooling, number] of Object.entries(poolings)) {
        setPooling(model, number);
        failed += !await judgeEmbeddings(`${shape}, ${pooling}`, type, model);
      }
    } else {
      failed += !await judgeEmbeddings(shape, type, model);
    }
    rmSync(model);
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(failed ? 1 : 0);
