// How much memory quantising takes of a model that is larger than memory: Llama 3.1 70B's shape.
//   node bench/quantise_large.mjs [--layers 80] [--type q4_k] [--tokens 2048] [--folder DIR] [-- FURTHER OPTIONS OF quantize]
// With --tokens 0 without a calibration.
// The model is a file of F16 with a true header and no data: holes, which read as zeros and take nothing of the disk.
// Numbers that are zero cost as much memory as others, and multiplications as much time; searching for scales costs less.
import { spawn } from 'node:child_process';
import { closeSync, existsSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';

const program = process.env.TIDEMILL_PROGRAM ?? path.join(process.env.TIDEMILL_BUILD ?? 'build/release', 'tidemill');
const { values: options, positionals: further } = parseArgs({
  options: {
    layers: { type: 'string', default: '80' },
    type: { type: 'string', default: 'q4_k' },
    tokens: { type: 'string', default: '2048' },
    folder: { type: 'string', default: os.tmpdir() },
  },
  allowPositionals: true,
});
const shape = { width: 8192, layers: Number(options.layers), heads: 64, kvHeads: 8, headDim: 128, inner: 28672, tokens: 128256, ropeBase: 500000, ropeFactor: 8 };
const GiB = 2 ** 30;
const gib = (bytes) => `${(bytes / GiB).toFixed(2)} GiB`;

// GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
const type = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 };
const u32 = (x) => { const b = Buffer.alloc(4); b.writeUInt32LE(x); return b; };
const i32 = (x) => { const b = Buffer.alloc(4); b.writeInt32LE(x); return b; };
const u64 = (x) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(x)); return b; };
const f32 = (x) => { const b = Buffer.alloc(4); b.writeFloatLE(x); return b; };
const string = (s) => { const b = Buffer.from(s); return Buffer.concat([u64(b.length), b]); };
const number = (key, x) => Buffer.concat([string(key), u32(type.u32), u32(x)]);
const real = (key, x) => Buffer.concat([string(key), u32(type.f32), f32(x)]);
const word = (key, x) => Buffer.concat([string(key), u32(type.string), string(x)]);
const strings = (key, list) => Buffer.concat([string(key), u32(type.array), u32(type.string), u64(list.length), ...list.map(string)]);
const kinds = (key, list) => Buffer.concat([string(key), u32(type.array), u32(type.i32), u64(list.length), ...list.map(i32)]);

// Every byte is a token, as byte-level BPE writes it, and what remains of the vocabulary is never met.
function vocabulary() {
  const visible = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  const bytes = Array.from({ length: 256 }, (_, b) => String.fromCodePoint(visible(b) ? b : next++));
  const tokens = [...bytes, '<|begin_of_text|>', '<|end_of_text|>'];
  while (tokens.length < shape.tokens) tokens.push(`<|reserved_${tokens.length}|>`);
  return tokens;
}

// As Meta's models/llama3/model.py scales them for Llama 3.1.
function ropeFactors() {
  return Array.from({ length: shape.headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * shape.ropeBase ** ((2 * i) / shape.headDim);
    if (wavelength > 8192) return shape.ropeFactor;
    if (wavelength <= 8192 / 4) return 1;
    const smooth = (8192 / wavelength - 1) / 3;
    return 1 / ((1 - smooth) / shape.ropeFactor + smooth);
  });
}

function tensors() {
  const { width, inner, headDim } = shape;
  const list = [['rope_freqs.weight', [headDim / 2]], ['token_embd.weight', [width, shape.tokens]]];
  for (let i = 0; i < shape.layers; ++i) {
    const layer = [
      ['attn_norm', [width]], ['attn_q', [width, shape.heads * headDim]], ['attn_k', [width, shape.kvHeads * headDim]],
      ['attn_v', [width, shape.kvHeads * headDim]], ['attn_output', [shape.heads * headDim, width]], ['ffn_norm', [width]],
      ['ffn_gate', [width, inner]], ['ffn_up', [width, inner]], ['ffn_down', [inner, width]],
    ];
    list.push(...layer.map(([name, dims]) => [`blk.${i}.${name}.weight`, dims]));
  }
  return [...list, ['output_norm.weight', [width]], ['output.weight', [width, shape.tokens]]].map(([name, dims]) => {
    const elements = dims.reduce((a, b) => a * b);
    return { name, dims, half: dims.length > 1, bytes: elements * (dims.length > 1 ? 2 : 4) };
  });
}

// Writes the model, and gives its size and those of its largest layer and tensor.
function write(file) {
  const words = vocabulary();
  const metadata = [
    word('general.architecture', 'llama'), word('general.name', `Llama 3.1 70B's shape, ${shape.layers} layers of zeros`), number('general.file_type', 1),
    number('llama.block_count', shape.layers), number('llama.context_length', 131072), number('llama.embedding_length', shape.width),
    number('llama.feed_forward_length', shape.inner), number('llama.attention.head_count', shape.heads), number('llama.attention.head_count_kv', shape.kvHeads),
    number('llama.attention.key_length', shape.headDim), number('llama.attention.value_length', shape.headDim), number('llama.rope.dimension_count', shape.headDim),
    number('llama.vocab_size', shape.tokens), real('llama.rope.freq_base', shape.ropeBase), real('llama.attention.layer_norm_rms_epsilon', 1e-5),
    word('tokenizer.ggml.model', 'gpt2'), word('tokenizer.ggml.pre', 'llama-bpe'), strings('tokenizer.ggml.tokens', words),
    kinds('tokenizer.ggml.token_type', words.map((_, i) => (i < 256 ? 1 : 3))), strings('tokenizer.ggml.merges', []),
    number('tokenizer.ggml.bos_token_id', 256), number('tokenizer.ggml.eos_token_id', 257),
  ];
  const all = tensors();
  let offset = 0;
  const infos = [];
  const layers = new Map();
  for (const tensor of all) {
    infos.push(Buffer.concat([string(tensor.name), u32(tensor.dims.length), ...tensor.dims.map(u64), u32(tensor.half ? 1 : 0), u64(offset)]));
    offset += Math.ceil(tensor.bytes / 32) * 32;
    const layer = /^blk\.(\d+)\./.exec(tensor.name)?.[1];
    if (layer !== undefined) layers.set(layer, (layers.get(layer) ?? 0) + tensor.bytes);
  }
  const header = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(all.length), u64(metadata.length), ...metadata, ...infos]);
  const start = Math.ceil(header.length / 32) * 32;
  const fd = openSync(file, 'w');
  writeSync(fd, header, 0, header.length, 0);
  const factors = Buffer.concat(ropeFactors().map(f32));
  writeSync(fd, factors, 0, factors.length, start);
  ftruncateSync(fd, start + offset);
  closeSync(fd);
  return { bytes: start + offset, layer: Math.max(...layers.values()), tensor: Math.max(...all.map((tensor) => tensor.bytes)) };
}

// Of a process's memory: the most that was ever resident (VmHWM), and what is now of its own and of files that are mapped.
function memoryOf(pid) {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    return ['VmHWM', 'RssAnon', 'RssFile'].map((name) => 1024 * Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0));
  } catch {
    return [0, 0, 0]; // it has ended
  }
}

function quantise(args) {
  return new Promise((resolve, reject) => {
    const began = process.hrtime.bigint();
    const child = spawn(program, ['quantize', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    let most = [0, 0, 0];
    const sampling = setInterval(() => { most = memoryOf(child.pid).map((bytes, i) => Math.max(bytes, most[i])); }, 100);
    child.stdout.on('data', (bytes) => { said += bytes; });
    child.on('error', reject);
    child.on('close', (code) => {
      clearInterval(sampling);
      if (code !== 0) reject(new Error(`quantize ended with ${code}`));
      else resolve({ said, most, seconds: Number(process.hrtime.bigint() - began) / 1e9 });
    });
  });
}

// Interrupted, it leaves nothing either: this goes to the child as well, which ends, and then here.
process.on('SIGINT', () => {});

if (!existsSync(program)) throw new Error(`${program} is missing: make build`);
const folder = mkdtempSync(path.join(options.folder, 'tidemill-large-'));
try {
  const [source, text, output] = ['f16.gguf', 'text.txt', 'small.gguf'].map((name) => path.join(folder, name));
  const { bytes, layer, tensor } = write(source);
  // A token is a byte.
  writeFileSync(text, 'def scale(values, by):\n    return [by * x for x in values]\n'.repeat(Math.ceil(Number(options.tokens) / 58) + 1));
  console.log(`${shape.layers} layers of ${gib(layer)} in F16, ${gib(bytes)} in all, of which ${(statSync(source).blocks / 2048).toFixed(1)} MiB are on the disk`);
  const calibration = Number(options.tokens) > 0 ? ['--calibrate', text, '--calibration-tokens', options.tokens] : [];
  const { said, most: [peak, own, mapped], seconds } = await quantise([source, output, '--type', options.type, ...calibration, ...further]);
  console.log(said.trim());
  console.log(`at most ${gib(peak)} resident (VmHWM), ${(peak / layer).toFixed(3)} times the largest layer and ${(peak / tensor).toFixed(3)} times the largest tensor (${gib(tensor)})`);
  console.log(`of its own at most ${gib(own)}, of mapped files ${gib(mapped)}, not at the same time; ${seconds.toFixed(0)} s for ${options.tokens} tokens`);
} finally {
  rmSync(folder, { recursive: true });
}
