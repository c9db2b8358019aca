// Prefill and decode of Tidemill and llama.cpp on one file, interleaved, medians of several rounds.
//   node tests/peers/speed.mjs [SHAPE[:LAYERS]] [TYPE] [ROUNDS] [STREAMS]
// Of LAYERS of the shape's layers alone, where the whole is too large. With STREAMS, decoding of so many at once too.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const [target = 'llama-3.2-1b', type = 'q8_0', rounds = '3', streams = '1'] = process.argv.slice(2);
const [shape, layers] = target.split(':');
const program = process.env.TIDEMILL_PROGRAM ?? 'build/release/tidemill';
const tidemill = (...args) => execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
const threads = 2;
const prefill = 512;
const decode = 64;
const together = { streams: Number(streams), context: 16, decode: 32 };
// All shapes have so many tokens, tiny ones too.
const vocabulary = 1000;
const prompt = (length, seed) => Array.from({ length }, (_, i) => (i * 7919 + seed * 31) % vocabulary);
const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];
async function timeTogether(model, ours, theirs) {
  const { streams, context, decode } = together;
  ours.push(JSON.parse(tidemill('bench', model, '--prefill', '16', '--context', `${context}`, '--decode', `${decode}`, '--streams', `${streams}`,
    '--threads', `${threads}`, '--repeat', '1', '--no-ceilings', '--json')).decode_tok_s);
  const peer = await Peer.open(model, { threads, contextSize: 128, batchSize: 512, sequences: streams });
  theirs.push(await peer.rate(Array.from({ length: streams }, (_, i) => prompt(context, i)), decode));
  await peer.close();
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-peers-'));
try {
  const model = path.join(folder, 'model.gguf');
  tidemill('synth', shape, model, '--type', type, ...(layers ? ['--layers', layers] : []));
  const names = ['prefill', 'decode', ...(together.streams > 1 ? [`decode x ${together.streams}`] : [])];
  const ours = Object.fromEntries(names.map((name) => [name, []]));
  const theirs = Object.fromEntries(names.map((name) => [name, []]));
  let ceilings;
  for (let round = 0; round < Number(rounds); round++) {
    const measured = JSON.parse(tidemill('bench', model, '--prefill', `${prefill}`, '--decode', `${decode}`, '--threads', `${threads}`, '--repeat', '1', '--json'));
    ours.prefill.push(measured.prefill_tok_s);
    ours.decode.push(measured.decode_tok_s);
    ceilings = measured;
    const peer = await Peer.open(model, { threads, contextSize: 1024, batchSize: 512 });
    await peer.time(prompt(32, round), 1);
    const time = await peer.time(prompt(prefill, round), decode);
    await peer.close();
    theirs.prefill.push(prefill / time.prefill);
    theirs.decode.push(decode / time.decode);
    if (together.streams > 1) await timeTogether(model, ours[names[2]], theirs[names[2]]);
  }
  const row = (name) => {
    const [a, b] = [median(ours[name]), median(theirs[name])];
    console.log(`${name.padEnd(11)} Tidemill ${a.toFixed(1)} tok/s   llama.cpp ${b.toFixed(1)} tok/s   ratio ${(a / b).toFixed(2)}`);
  };
  console.log(`${shape}${layers ? `, ${layers} layers` : ''} ${type}, ${threads} threads, median of ${rounds}`);
  names.forEach(row);
  const share = ceilings.decode_share_of_read_bandwidth;
  if (share === null) console.log('the weights fit the last-level cache, so that the read bandwidth says nothing of decoding');
  else console.log(`Tidemill's decode is ${(100 * share).toFixed(0)} % of the read bandwidth measured in its last round`);
} finally {
  rmSync(folder, { recursive: true });
}
