// Tidemill and llama.cpp beside busy processes: what is left of their speed when none, one and two of the two processors
// that they compute on are shared with a process that never rests. Interleaved, medians of several rounds.
//   node tests/peers/noise.mjs [SHAPE] [TYPE] [ROUNDS]
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const [shape = 'llama-3.2-1b', type = 'q8_0', rounds = '3'] = process.argv.slice(2);
const program = process.env.TIDEMILL_PROGRAM ?? 'build/release/tidemill';
const prefill = 128;
const decode = 32;
const median = (xs) => xs.sort((a, b) => a - b)[xs.length >> 1];

// All three programs are kept to the first two processors of this process, where every thread of each may move freely.
function firstTwoProcessors() {
  const allowed = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1];
  const list = allowed.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
  if (list.length < 2) throw new Error(`two processors are needed, this process has ${list.length}`);
  return list.slice(0, 2);
}
const processors = firstTwoProcessors();
execFileSync('taskset', ['-apc', processors.join(','), `${process.pid}`], { stdio: 'ignore' });

const neighbours = [];
process.on('exit', () => neighbours.forEach((neighbour) => neighbour.kill('SIGKILL')));
function startNeighbour() {
  const processor = processors[processors.length - 1 - neighbours.length];
  neighbours.push(spawn('taskset', ['-c', `${processor}`, 'sh', '-c', 'while :; do :; done'], { stdio: 'ignore' }));
}
async function stopNeighbours() {
  const ended = neighbours.map((neighbour) => new Promise((resolve) => neighbour.once('exit', resolve)));
  neighbours.splice(0).forEach((neighbour) => neighbour.kill('SIGKILL'));
  await Promise.all(ended);
}

async function tidemill(model) {
  const args = ['bench', model, '--prefill', `${prefill}`, '--decode', `${decode}`, '--threads', '2', '--repeat', '1', '--no-ceilings', '--json'];
  const measured = JSON.parse(execFileSync(program, args, { encoding: 'utf8' }));
  return { prefill: measured.prefill_tok_s, decode: measured.decode_tok_s };
}

async function llama(model, round) {
  const peer = await Peer.open(model, { threads: 2, contextSize: 512, batchSize: 512 });
  const prompt = Array.from({ length: prefill }, (_, i) => (i * 7919 + round * 31) % 30000);
  await peer.time(prompt.slice(0, 16), 1);
  const time = await peer.time(prompt, decode);
  await peer.close();
  return { prefill: prefill / time.prefill, decode: decode / time.decode };
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-noise-'));
try {
  const model = path.join(folder, 'model.gguf');
  execFileSync(program, ['synth', shape, model, '--type', type], { stdio: 'ignore' });
  const figures = [0, 1, 2].map(() => ({ ours: { prefill: [], decode: [] }, theirs: { prefill: [], decode: [] } }));
  for (let round = 0; round < Number(rounds); round++) {
    for (const [count, at] of figures.entries()) {
      while (neighbours.length < count) startNeighbour();
      for (const [who, measured] of [['ours', await tidemill(model)], ['theirs', await llama(model, round)]]) {
        at[who].prefill.push(measured.prefill);
        at[who].decode.push(measured.decode);
      }
    }
    await stopNeighbours();
  }
  console.log(`${shape} ${type}, 2 threads on 2 processors, median of ${rounds}; in brackets: of what it is without neighbours`);
  const cell = (who, what, count) => {
    const value = median(figures[count][who][what]);
    return `${value.toFixed(1)} tok/s (${Math.round((100 * value) / median(figures[0][who][what]))} %)`;
  };
  for (const what of ['prefill', 'decode']) {
    for (const count of [0, 1, 2]) {
      console.log(`${what.padEnd(8)} ${count} busy   Tidemill ${cell('ours', what, count).padEnd(22)} llama.cpp ${cell('theirs', what, count)}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(0);
