// Prefill and decode of Tidemill and llama.cpp on one file, interleaved, medians of several rounds.
//   node tests/peers/speed.mjs [SHAPE] [TYPE] [ROUNDS]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const [shape = 'llama-3.2-1b', type = 'q8_0', rounds = '3'] = process.argv.slice(2);
const program = process.env.TIDEMILL_PROGRAM ?? 'build/release/tidemill';
const tidemill = (...args) => execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
const threads = 2;
const prefill = 512;
const decode = 64;
const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];
const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-peers-'));
try {
  const model = path.join(folder, 'model.gguf');
  tidemill('synth', shape, model, '--type', type);
  const ours = { prefill: [], decode: [] };
  const theirs = { prefill: [], decode: [] };
  let ceilings;
  for (let round = 0; round < Number(rounds); round++) {
    const measured = JSON.parse(tidemill('bench', model, '--prefill', `${prefill}`, '--decode', `${decode}`, '--threads', `${threads}`, '--repeat', '1', '--json'));
    ours.prefill.push(measured.prefill_tok_s);
    ours.decode.push(measured.decode_tok_s);
    ceilings = measured;
    const peer = await Peer.open(model, { threads, contextSize: 1024, batchSize: 512 });
    const prompt = Array.from({ length: prefill }, (_, i) => (i * 7919 + round * 31) % 30000);
    await peer.time(prompt.slice(0, 32), 1);
    const time = await peer.time(prompt, decode);
    await peer.close();
    theirs.prefill.push(prefill / time.prefill);
    theirs.decode.push(decode / time.decode);
  }
  const row = (name) => {
    const [a, b] = [median(ours[name]), median(theirs[name])];
    console.log(`${name.padEnd(8)} Tidemill ${a.toFixed(1)} tok/s   llama.cpp ${b.toFixed(1)} tok/s   ratio ${(a / b).toFixed(2)}`);
  };
  console.log(`${shape} ${type}, ${threads} threads, median of ${rounds}`);
  row('prefill');
  row('decode');
  const share = ceilings.decode_share_of_read_bandwidth;
  if (share === null) console.log('the weights fit the last-level cache, so that the read bandwidth says nothing of decoding');
  else console.log(`Tidemill's decode is ${(100 * share).toFixed(0)} % of the read bandwidth measured in its last round`);
} finally {
  rmSync(folder, { recursive: true });
}
