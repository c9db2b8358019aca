// Greedy tokens of Tidemill and llama.cpp on the same synthesised files: architectures and weight types.
//   node tests/peers/greedy.mjs
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Peer } from './llama.mjs';

const program = process.env.TIDEMILL_PROGRAM ?? 'build/release/tidemill';
const tidemill = (...args) => execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
const count = 32;
const prompt = 'The tide turns the mill, and the mill grinds the grain.';
const exact = new Set(['f32']); // elsewhere the two round differently: report how far they agree
const folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-peers-'));
let failed = 0;
try {
  for (const shape of ['llama-tiny', 'qwen2-tiny', 'qwen3-tiny']) {
    for (const type of ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_k', 'q6_k']) {
      const model = path.join(folder, `${shape}-${type}.gguf`);
      tidemill('synth', shape, model, '--type', type);
      const ids = JSON.parse(execFileSync(program, ['tokenize', '--model', model, '--json'], { input: prompt, encoding: 'utf8' }));
      const ours = JSON.parse(tidemill('complete', '--model', model, '--prompt', prompt, '--max-tokens', `${count}`,
        '--temperature', '0', '--ignore-eos', '--kv-type', 'f32', '--json')).tokens;
      const peer = await Peer.open(model, { contextSize: 256 });
      const theirIds = [...peer.model.tokenize(prompt)];
      const bos = ids[0] !== theirIds[0] ? [ids[0]] : [];
      const theirs = await peer.greedy(ids, count);
      await peer.close();
      const same = ours.findIndex((t, i) => t !== theirs[i]);
      const agree = same < 0 ? count : same;
      const tokenized = JSON.stringify(ids) === JSON.stringify([...bos, ...theirIds]);
      const verdict = agree === count ? 'same' : exact.has(type) ? 'DIFFERS' : `same up to token ${agree}`;
      if ((exact.has(type) && agree < count) || !tokenized) failed++;
      console.log(`${shape.padEnd(12)} ${type.padEnd(5)} ${verdict}${tokenized ? '' : '  TOKENS OF THE PROMPT DIFFER'}`);
    }
  }
} finally {
  rmSync(folder, { recursive: true });
}
process.exit(failed ? 1 : 0);
