// A Hugging Face folder under the program's commands, and the GGUF file that it becomes.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { program, Server } from './server.mjs';

const width = 32;
const heads = 2;
const layers = 2;

function tidemill(...args) {
  const done = spawnSync(program, args, { input: '', encoding: 'utf8', maxBuffer: 1 << 26 });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

// GPT-2's characters for the bytes: those that print are themselves, the others follow from U+0100 on.
function byteCharacters() {
  const prints = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(prints(b) ? b : next++));
}

// Small pseudo-random numbers, the same every time.
function weights(count, seed) {
  let state = seed * 2654435761 + 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * 0.4;
  });
}

function safetensors(tensors) {
  const header = {};
  let at = 0;
  for (const [name, { shape, values }] of tensors) {
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + values.byteLength] };
    at += values.byteLength;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map(([, { values }]) => Buffer.from(values.buffer))]);
}

function modelTensors(tokens) {
  let seed = 0;
  const matrix = (rows, cols) => ({ shape: [rows, cols], values: weights(rows * cols, ++seed) });
  const norm = () => ({ shape: [width], values: new Float32Array(width).fill(1) });
  const layer = (i) => [
    [`model.layers.${i}.input_layernorm.weight`, norm()],
    [`model.layers.${i}.self_attn.q_proj.weight`, matrix(width, width)],
    [`model.layers.${i}.self_attn.k_proj.weight`, matrix(width / 2, width)],
    [`model.layers.${i}.self_attn.v_proj.weight`, matrix(width / 2, width)],
    [`model.layers.${i}.self_attn.o_proj.weight`, matrix(width, width)],
    [`model.layers.${i}.post_attention_layernorm.weight`, norm()],
    [`model.layers.${i}.mlp.gate_proj.weight`, matrix(2 * width, width)],
    [`model.layers.${i}.mlp.up_proj.weight`, matrix(2 * width, width)],
    [`model.layers.${i}.mlp.down_proj.weight`, matrix(width, 2 * width)],
  ];
  return [
    ['model.embed_tokens.weight', matrix(tokens, width)],
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    ['model.norm.weight', norm()],
    ['lm_head.weight', matrix(tokens, width)],
  ];
}

// Two files of weights, a byte-level vocabulary of the bytes and two special tokens, and a chat template.
function writeModel(folder) {
  mkdirSync(folder);
  const put = (name, content) => writeFileSync(path.join(folder, name), Buffer.isBuffer(content) ? content : JSON.stringify(content));
  const tensors = modelTensors(258);
  const parts = [tensors.slice(0, 9), tensors.slice(9)];
  const names = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  parts.forEach((part, i) => put(names[i], safetensors(part)));
  put('model.safetensors.index.json', { metadata: {}, weight_map: Object.fromEntries(parts.flatMap((part, i) => part.map(([name]) => [name, names[i]]))) });
  put('config.json', {
    architectures: ['LlamaForCausalLM'], model_type: 'llama', hidden_act: 'silu', hidden_size: width, intermediate_size: 2 * width,
    num_hidden_layers: layers, num_attention_heads: heads, num_key_value_heads: 1, max_position_embeddings: 256, rms_norm_eps: 1e-5,
    rope_theta: 10000, tie_word_embeddings: false, vocab_size: 258, bos_token_id: 256, eos_token_id: [257],
  });
  put('tokenizer.json', {
    added_tokens: [{ id: 256, content: '<begin>', special: true }, { id: 257, content: '<finish>', special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(byteCharacters().map((c, i) => [c, i])), merges: [] },
  });
  put('tokenizer_config.json', { bos_token: '<begin>', eos_token: '<finish>' });
  put('chat_template.jinja', Buffer.from('{% for message in messages %}{{ message.content }}{% endfor %}'));
}

// A small BERT, as transformers and sentence-transformers save it: for embeddings, or with a head that scores.
function writeEncoder(folder, ranks) {
  mkdirSync(path.join(folder, '1_Pooling'), { recursive: true });
  const put = (name, content) => writeFileSync(path.join(folder, name), Buffer.isBuffer(content) ? content : JSON.stringify(content));
  const pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', ...'abcdefghijklmnopqrstuvwxyz'].concat([...'abcdefghijklmnopqrstuvwxyz'].map((c) => `##${c}`));
  let seed = 100;
  const vector = (size, value) => ({ shape: [size], values: value === undefined ? weights(size, ++seed) : new Float32Array(size).fill(value) });
  const matrix = (rows, cols) => ({ shape: [rows, cols], values: weights(rows * cols, ++seed) });
  const norm = (name) => [[`${name}.weight`, vector(width, 1)], [`${name}.bias`, vector(width, 0)]];
  const dense = (name, rows, cols) => [[`${name}.weight`, matrix(rows, cols)], [`${name}.bias`, vector(rows)]];
  const prefix = ranks ? 'bert.' : '';
  const layer = (i) => [
    ...['query', 'key', 'value'].flatMap((part) => dense(`${prefix}encoder.layer.${i}.attention.self.${part}`, width, width)),
    ...dense(`${prefix}encoder.layer.${i}.attention.output.dense`, width, width),
    ...norm(`${prefix}encoder.layer.${i}.attention.output.LayerNorm`),
    ...dense(`${prefix}encoder.layer.${i}.intermediate.dense`, 2 * width, width),
    ...dense(`${prefix}encoder.layer.${i}.output.dense`, width, 2 * width),
    ...norm(`${prefix}encoder.layer.${i}.output.LayerNorm`),
  ];
  put('model.safetensors', safetensors([
    [`${prefix}embeddings.word_embeddings.weight`, matrix(pieces.length, width)],
    [`${prefix}embeddings.position_embeddings.weight`, matrix(64, width)],
    [`${prefix}embeddings.token_type_embeddings.weight`, matrix(2, width)],
    ...norm(`${prefix}embeddings.LayerNorm`),
    ...Array.from({ length: layers }, (_, i) => layer(i)).flat(),
    ...dense(`${prefix}pooler.dense`, width, width),
    ...(ranks ? dense('classifier', 1, width) : []),
  ]));
  put('config.json', {
    architectures: [ranks ? 'BertForSequenceClassification' : 'BertModel'], model_type: 'bert', hidden_act: 'gelu', hidden_size: width,
    intermediate_size: 2 * width, num_hidden_layers: layers, num_attention_heads: heads, max_position_embeddings: 64, layer_norm_eps: 1e-12,
    type_vocab_size: 2, vocab_size: pieces.length, pad_token_id: 0, position_embedding_type: 'absolute',
  });
  put('tokenizer.json', {
    added_tokens: pieces.slice(0, 4).map((content, id) => ({ id, content, special: true })),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: { type: 'BertProcessing', sep: ['[SEP]', 3], cls: ['[CLS]', 2] },
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab: Object.fromEntries(pieces.map((c, i) => [c, i])) },
  });
  put('tokenizer_config.json', { do_lower_case: true, cls_token: '[CLS]', sep_token: '[SEP]', pad_token: '[PAD]', unk_token: '[UNK]' });
  put('sentence_bert_config.json', { max_seq_length: 64, do_lower_case: false });
  put('modules.json', [['', 'Transformer'], ['1_Pooling', 'Pooling'], ['2_Normalize', 'Normalize']].map(([where, type]) => ({ path: where, type: `sentence_transformers.models.${type}` })));
  put('1_Pooling/config.json', { word_embedding_dimension: width, pooling_mode_cls_token: true, pooling_mode_mean_tokens: false });
}

async function answerOf(model, endpoint, request) {
  const server = await Server.start(model);
  try {
    const answer = await fetch(`${server.url}${endpoint}`, { method: 'POST', body: JSON.stringify(request) });
    assert.equal(answer.status, 200);
    return await answer.json();
  } finally {
    await server.stop();
  }
}

describe('Hugging Face folders', { timeout: 300_000 }, () => {
  let folder;
  let model;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-'));
    model = path.join(folder, 'small-1.5');
    writeModel(model);
  });
  after(() => rmSync(folder, { recursive: true }));

  test('are shown', () => {
    const shown = tidemill('inspect', model, '--json');
    assert.equal(shown.code, 0, shown.err);
    const body = JSON.parse(shown.out);
    assert.deepEqual([body.form, body.architecture, body.name, body.files], ['hugging_face', 'llama', 'small-1.5', 7]);
    assert.equal(body.gguf_version, undefined);
    assert.deepEqual([body.shape.width, body.shape.layers, body.shape.head_dim, body.shape.vocabulary], [32, 2, 16, 258]);
    assert.match(tidemill('inspect', model, '--tensors').out, /Hugging Face folder of 7 files.*blk\.1\.attn_q\.weight +F32 +\[32, 32\]/s);
  });

  test('are shown as they are stored where they cannot run', () => {
    const other = path.join(folder, 'other');
    mkdirSync(other);
    for (const name of readdirSync(model)) copyFileSync(path.join(model, name), path.join(other, name));
    writeFileSync(path.join(other, 'config.json'), JSON.stringify({ model_type: 'gpt_neox', hidden_size: width }));
    const shown = tidemill('inspect', other, '--json', '--tensors');
    assert.equal(shown.code, 0, shown.err);
    const body = JSON.parse(shown.out);
    assert.match(body.cannot_run, /'model_type' is 'gpt_neox'/);
    assert.equal(body.metadata['config.hidden_size'], width);
    assert.ok(body.tensors.some((tensor) => tensor.name === 'model.norm.weight'));
    assert.match(tidemill('inspect', other).out, /cannot be run: .*'model_type' is 'gpt_neox'.*config\.model_type +"gpt_neox"/s);
    assert.equal(tidemill('complete', '--prompt', 'x', '-m', other).code, 1);
    // Or that are damaged: what is missing or contradicts is said, and the rest shown.
    const config = JSON.parse(readFileSync(path.join(model, 'config.json')));
    const damaged = [
      [{ num_hidden_layers: 3 }, /'model\.layers\.2\.[\w.]+' is missing/],
      [{ vocab_size: 300 }, /'vocab_size' of config\.json is 300/],
    ];
    for (const [change, reason] of damaged) {
      writeFileSync(path.join(other, 'config.json'), JSON.stringify({ ...config, ...change }));
      const seen = tidemill('inspect', other, '--json', '--tensors');
      assert.equal(seen.code, 0, seen.err);
      assert.match(JSON.parse(seen.out).cannot_run, reason);
      assert.ok(JSON.parse(seen.out).tensors.some((tensor) => tensor.name === 'model.norm.weight'));
      assert.equal(tidemill('complete', '--prompt', 'x', '-m', other).code, 1);
    }
    writeFileSync(path.join(other, 'config.json'), JSON.stringify(config));
    rmSync(path.join(other, 'tokenizer.json'));
    assert.match(tidemill('inspect', other).out, /cannot be run: .*tokenizer.*config\.model_type +"llama"/s);
  });

  test('run, and compute what the GGUF file that they become computes', async () => {
    const converted = path.join(folder, 'out.gguf');
    const made = tidemill('convert', model, converted);
    assert.equal(made.code, 0, made.err);
    const packed = path.join(folder, 'packed.gguf');
    assert.equal(tidemill('pack', model, packed).code, 0);
    for (const command of [
      ['tokenize', '--text', 'a wörd', '--json'],
      ['complete', '--prompt', 'def f(', '--max-tokens', '24', '--temperature', '0', '--json'],
      ['chat', '--message', 'import os', '-n', '5', '--temperature', '0', '--json'],
    ]) {
      const [own, other, third] = [model, converted, packed].map((file) => tidemill(...command, '-m', file));
      assert.equal(own.code, 0, own.err);
      if (command[0] === 'tokenize') assert.deepEqual(JSON.parse(own.out), [...Buffer.from('a wörd')]);
      assert.equal(other.out, own.out);
      assert.equal(third.out, own.out);
    }
    // In fewer bits, and judged by what that changes.
    const small = path.join(folder, 'int8.gguf');
    const quantised = tidemill('quantize', model, small, '--calibrate', path.join(model, 'config.json'), '--json');
    assert.equal(quantised.code, 0, quantised.err);
    assert.match(quantised.err, /config\.json' gave \d{1,3} tokens to calibrate with: from so few/);
    assert.deepEqual([JSON.parse(quantised.out).type, JSON.parse(quantised.out).changed], ['Q8_0', 16]);
    const byRow = tidemill('quantize', model, path.join(folder, 'rows.gguf'), '--per-channel', '--json');
    assert.equal(byRow.code, 0, byRow.err);
    assert.deepEqual([JSON.parse(byRow.out).type, JSON.parse(byRow.out).per_channel], ['Q8_0', true]);
    const odd = tidemill('quantize', model, path.join(folder, 'no.gguf'), '--per-channel', '--type', 'q4_0');
    assert.equal(odd.code, 2);
    assert.match(odd.err, /--per-channel is of int8 \(Q8_0\), not of Q4_0/);
    const judged = tidemill('eval', small, '--text', path.join(model, 'config.json'), '--against', model, '--json');
    assert.equal(judged.code, 0, judged.err);
    const { comparison } = JSON.parse(judged.out).text;
    assert.ok(comparison.top1_agreement > 0.9 && comparison.kl_mean < 0.01, judged.out);
    const server = await Server.start(model);
    const answer = await fetch(`${server.url}/v1/completions`, { method: 'POST', body: JSON.stringify({ prompt: 'def f(', max_tokens: 4, temperature: 0 }) });
    assert.equal(answer.status, 200);
    const body = await answer.json();
    assert.equal(body.model, 'small-1.5');
    assert.ok(body.usage.completion_tokens > 0);
    assert.equal((await server.stop()).code, 0);
  });

  test('of encoders embed and rank, as the GGUF files that they become', async () => {
    const encoder = path.join(folder, 'encoder');
    writeEncoder(encoder, false);
    const converted = path.join(folder, 'encoder.gguf');
    const made = tidemill('convert', encoder, converted);
    assert.equal(made.code, 0, made.err);
    assert.match(tidemill('inspect', encoder).out, /bert/);
    assert.deepEqual(JSON.parse(tidemill('tokenize', '--text', 'A tide?', '--json', '-m', encoder).out), JSON.parse(tidemill('tokenize', '--text', 'A tide?', '--json', '-m', converted).out));
    const request = { input: ['a tide', 'the mill', 'A TIDE'] };
    const { data } = await answerOf(encoder, '/v1/embeddings', request);
    assert.equal(data.length, 3);
    assert.ok(Math.abs(data[0].embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-4);
    assert.deepEqual(data[2].embedding, data[0].embedding, 'the tokenizer knows no capitals');
    assert.notDeepEqual(data[1].embedding, data[0].embedding);
    assert.deepEqual((await answerOf(converted, '/v1/embeddings', request)).data, data);

    const reranker = path.join(folder, 'reranker');
    writeEncoder(reranker, true);
    const asked = { query: 'a tide', documents: ['the mill', 'a tide', 'wind'] };
    const { results } = await answerOf(reranker, '/rerank', asked);
    assert.deepEqual(results.map((result) => result.index).sort(), [0, 1, 2]);
    const other = path.join(folder, 'reranker.gguf');
    assert.equal(tidemill('convert', reranker, other).code, 0);
    assert.deepEqual((await answerOf(other, '/rerank', asked)).results, results);
  });

  test('become files of any name, which is no way into a terminal or a JSON text', () => {
    const odd = "$'we\\x1b[31m\\xffird.gguf'";
    for (const command of ['convert', 'pack', 'quantize']) {
      for (const flag of ['--json', '']) {
        const made = spawnSync('bash', ['-c', `cd "$1" && "$0" ${command} "$2" ${odd} ${flag} && rm ${odd}`, path.resolve(program), folder, model], { env: process.env });
        assert.equal(made.status, 0, made.stderr.toString());
        const text = new TextDecoder('utf-8', { fatal: true }).decode(made.stdout);
        assert.ok(!text.includes('\x1b'));
        if (flag) assert.equal(JSON.parse(text).file, 'we\x1b[31m\ufffdird.gguf');
        else assert.match(text, /^we\ufffd\[31m\ufffdird\.gguf: /);
      }
    }
  });

  test('are refused with what is wrong, and nothing is written', () => {
    const broken = path.join(folder, 'broken');
    mkdirSync(broken);
    for (const name of readdirSync(model)) copyFileSync(path.join(model, name), path.join(broken, name));
    rmSync(path.join(broken, 'model-00002-of-00002.safetensors'));
    const before = readdirSync(folder);
    for (const command of ['inspect', 'complete', 'convert', 'quantize']) {
      const writes = ['convert', 'quantize'].includes(command);
      const refused = tidemill(command, ...(command === 'complete' ? ['--prompt', 'x', '-m', broken] : [broken]), ...(writes ? [path.join(folder, 'no.gguf')] : []));
      assert.equal(refused.code, 1);
      assert.match(refused.err, /model\.safetensors\.index\.json: it names the file 'model-00002-of-00002\.safetensors', which is missing/);
    }
    for (const command of ['convert', 'quantize']) {
      const own = tidemill(command, model, path.join(model, 'config.json'));
      assert.equal(own.code, 2);
      assert.match(own.err, /is the source itself/);
    }
    const odd = new Float32Array(width).fill(1);
    odd[3] = NaN;
    const tensors = modelTensors(258).map(([name, tensor]) => [name, name === 'model.norm.weight' ? { shape: [width], values: odd } : tensor]);
    writeFileSync(path.join(broken, 'model-00002-of-00002.safetensors'), safetensors(tensors.slice(9)));
    for (const command of [['convert', broken, path.join(folder, 'no.gguf')], ['pack', broken, path.join(folder, 'no.gguf')], ['quantize', broken, path.join(folder, 'no.gguf')], ['complete', '--prompt', 'x', '-m', broken]]) {
      const nan = tidemill(...command);
      assert.equal(nan.code, 1);
      assert.match(nan.err, /'output_norm\.weight' \('model\.norm\.weight' in 'model-00002-of-00002\.safetensors'\) holds NaN at element 3/i);
    }
    assert.deepEqual(readdirSync(folder), before);
  });
});
