// The program's subcommands as scripts use them.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { program } from './server.mjs';

const data = process.env.TIDEMILL_DATA ?? '../shared/data';

// A GGUF file without tensors; `entries` are [key, type, bytes of the value].
function ggufOf(entries) {
  const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32LE(n); return b; };
  const header = [Buffer.from('GGUF'), u32(3), u64(0), u64(entries.length)];
  return Buffer.concat([...header, ...entries.flatMap(([key, type, value]) => [ggufText(key), u32(type), value])]);
}
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64LE(BigInt(n)); return b; };
const ggufText = (text) => { const bytes = Buffer.from(text); return Buffer.concat([u64(bytes.length), bytes]); };

function tidemill(args, { input = '', env = {} } = {}) {
  const done = spawnSync(program, args, { input, encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 1 << 28 });
  return { code: done.status, out: done.stdout, err: done.stderr };
}

// Whether the process has a file open in the folder, with a name or without.
function opens(pid, folder) {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(folder));
  } catch (error) {
    if (error.code === 'ENOENT') return false;  // one was closed meanwhile
    throw error;
  }
}

describe('the command line', { timeout: 300_000 }, () => {
  let folder;
  before(() => { folder = mkdtempSync(path.join(os.tmpdir(), 'tidemill-')); });
  after(() => rmSync(folder, { recursive: true }));

  test('helps, and says what is wrong with a wrong command', () => {
    for (const name of ['serve', 'chat', 'complete', 'tokenize', 'template', 'inspect', 'bench', 'eval', 'keys', 'pull', 'convert', 'quantize', 'pack', 'distill', 'train', 'synth', 'version']) {
      const help = tidemill([name, '--help']);
      assert.equal(help.code, 0, name);
      assert.match(help.out, /--help/);
      assert.match(tidemill(['--help']).out, new RegExp(`\\b${name}\\b`));
    }
    const command = tidemill(['sevre']);
    assert.equal(command.code, 2);
    assert.match(command.err, /sevre.*serve/);
    const flag = tidemill(['complete', '--promt', 'x']);
    assert.equal(flag.code, 2);
    assert.match(flag.err, /--promt.*--prompt/);
    const value = tidemill(['complete', '--max-tokens', 'many']);
    assert.equal(value.code, 2);
    assert.match(value.err, /max-tokens/);
    const negative = tidemill(['complete', '--prompt', 'x', '--max-tokens', '-1']);
    assert.equal(negative.code, 2);
    assert.ok(negative.err.length < 200, negative.err);
    // What is misspelt is said, and not what is missing for want of it.
    for (const [args, words] of [
      [['pack', '--thread', '2'], /--thread.*--threads/],
      [['keys', 'create', '--tenat', 'acme'], /--tenat.*--tenant/],
      [['template', '--fil', 'x'], /--fil.*--file/],
    ]) {
      const misspelt = tidemill(args);
      assert.equal(misspelt.code, 2, misspelt.err);
      assert.match(misspelt.err, words);
    }
    const below = tidemill(['synth', 'llama-tiny', path.join(folder, 'x.gguf'), '--outlier-channels', '-1']);
    assert.equal(below.code, 2);
    assert.match(below.err, /--outlier-channels: '-1' is not a whole number of at least 0/);
    const keys = tidemill(['keys']);
    assert.equal(keys.code, 2);
    assert.match(keys.out, /Usage: tidemill keys /);
    const shape = tidemill(['synth', 'llama-9', path.join(folder, 'x.gguf')]);
    assert.equal(shape.code, 2);
    assert.match(shape.err, /llama-9.*qwen3-4b/);
  });

  test('a seed is any number of 64 bits, and nothing else', () => {
    const model = path.join(folder, 'seeded.gguf');
    const commands = [
      ['complete', '--prompt', 'def f(', '-n', '4', '--temperature', '1'],
      ['chat', '--message', 'def f(', '-n', '4', '--temperature', '1'],
      ['synth', 'llama-tiny', model],
    ];
    for (const command of commands) {
      for (const seed of ['18446744073709551616', '-9223372036854775809', '99999999999999999999999', '1.5', 'x', '']) {
        const refused = tidemill([...command, '--seed', seed]);
        assert.equal(refused.code, 2, `${command[0]} ${seed}`);
        assert.match(refused.err, /--seed: '.*' is not a whole number of 64 bits/);
      }
    }
    const written = (seed) => {
      const made = tidemill(['synth', 'llama-tiny', model, '--seed', seed]);
      assert.equal(made.code, 0, made.err);
      return createHash('sha256').update(readFileSync(model)).digest('hex');
    };
    assert.equal(written('-1'), written('18446744073709551615'));
    assert.notEqual(written('-1'), written('1'));
    const told = (seed) => tidemill([...commands[0], '--seed', seed]).out;
    assert.equal(told('-2'), told('18446744073709551614'));
  });

  // 2: what a person wrote is wrong. 1: a file, model, machine or peer is.
  test('exit codes follow one rule', () => {
    const put = (name, text) => { const file = path.join(folder, name); writeFileSync(file, text); return file; };
    const model = 'models/nano-coder.gguf';
    const missing = path.join(folder, 'missing');
    const nowhere = path.join(folder, 'no', 'such', 'folder');
    const broken = put('broken.gguf', readFileSync(model).subarray(0, 100_000));
    const foreign = put('foreign.txt', 'no model, no certificate, and long enough to be looked at');
    const badTemplate = put('bad.jinja', '{{ x');
    const goodTemplate = put('good.jinja', '{{ x }}');
    const badJson = put('bad.json', '{bad');
    const badToml = put('bad.toml', 'a = [');
    const packed = path.join(folder, 'packed-once.gguf');
    assert.equal(tidemill(['pack', model, packed]).code, 0);
    const wrong = [
      ['serve', '--prot', '1'], ['serve', '--port', '65536'], ['serve', '--config', badToml], ['serve', '--log.level', 'loud'],
      ['serve', '--port', '0', '--observe.otlp-endpoint', 'junk'], ['serve', '--port', '0', '--host', 'junk'],
      ['serve', '--port', '0', '--chat-template', badTemplate], ['serve', '--port', '0', '--model.name', 'a\nb'],
      ['gateway', '--port', '0', '--backend', 'junk'], ['gateway', '--port', '0', '--gateway.otlp', 'x'],
      ['gateway', '--port', '0', '--backend', 'http://127.0.0.1:1', '--observe.otlp-endpoint', 'junk'],
      ['template', '--file', badTemplate, '--input', badJson], ['template', '--file', goodTemplate, '--input', badJson],
      ['complete', '--prompt', 'x', '--isa', 'abacus'], ['complete', '--prompt', 'x', '--activations', 'int8'], ['serve', '--port', '0', '--activations', 'f16'], ['complete', '--prompt', 'x', '--temperature', '-1'],
      ['tokenize', '--decode', '--text', 'junk'], ['synth', 'no-shape', missing], ['pack', model], ['pack', model, model],
      ['eval', model], ['eval', model, '--text', foreign, '--window', '5000'], ['eval', model, '--text', put('empty.txt', '')], ['eval', model, '--tasks', badJson],
      ['eval', model, '--text', foreign, '--isa', 'abacus'], ['eval', model, '--text', foreign, '--stride', '600'],
      ['quantize', model], ['quantize', model, model], ['quantize', model, missing, '--type', 'q9'], ['quantize', model, missing, '--tensor', 'q6_k'],
      ['quantize', model, goodTemplate, '--calibrate', goodTemplate], ['quantize', model, missing, '--calibration-tokens', '100'], ['quantize', model, missing, '--calibration-window', '100'],
      ['quantize', model, missing, '--tensor', 'no.such.*=q6_k'], ['quantize', model, missing, '--bits', '6'],
      ...['nan', '-nan', 'inf', '1.9', '16.1', '8x', ''].map((bits) => ['quantize', model, missing, `--bits=${bits}`, '--calibrate', goodTemplate]),
      ...['nan', '-0.1', '1.1'].map((share) => ['distill', '--teacher', model, '--text', goodTemplate, '--student', 'tiny', '-o', missing, `--hard-share=${share}`]),
      ...['nan', 'inf', '0'].map((rate) => ['train', '--text', goodTemplate, '--student', 'tiny', '-o', missing, `--rate=${rate}`]),
      ...['quantize', 'convert', 'pack'].map((command) => [command, model, '']),
      ['quantize', model, missing, '--bits', '6', '--type', 'q4_0', '--calibrate', goodTemplate], ['quantize', model, missing, '--bits', '2', '--calibrate', goodTemplate],
      ['convert', model], ['convert', model, model], ['convert', model, missing, '--type', 'q9'],
      ['keys', 'create', '--tenant', 'a', '--name', 'b', '--expires', '2026-02-30'],
    ];
    const failed = [
      ...[missing, folder, broken, foreign].flatMap((file) => [
        ['complete', '-m', file, '--prompt', 'x'], ['chat', '-m', file, '--message', 'x'], ['tokenize', '-m', file, '--text', 'x'],
        ['inspect', file], ['bench', file], ['eval', file, '--text', goodTemplate], ['pack', file, path.join(folder, 'out.gguf')], ['convert', file, path.join(folder, 'out.gguf')], ['quantize', file, path.join(folder, 'out.gguf')], ['serve', '--port', '0', '--model', file],
      ]),
      ['eval', model, '--text', missing], ['eval', model, '--text', goodTemplate, '--against', missing], ['eval', packed, '--text', goodTemplate, '--plain'],
      ['pack', packed, path.join(folder, 'out.gguf')], ['convert', packed, path.join(folder, 'out.gguf')], ['quantize', packed, path.join(folder, 'out.gguf')],
      ['quantize', model, folder], ['quantize', model, path.join(nowhere, 'out.gguf')], ['quantize', model, path.join(folder, 'out.gguf'), '--calibrate', missing], ['serve', missing, '--port', '0'],
      ['pack', model, folder], ['pack', model, path.join(nowhere, 'out.gguf')],
      ['synth', 'llama-tiny', folder], ['synth', 'llama-tiny', path.join(nowhere, 'out.gguf')],
      ['template', '--file', missing], ['template', '--file', folder], ['template', '--file', goodTemplate, '--input', missing],
      ['serve', '--config', missing], ['serve', '--config', folder], ['serve', '--port', '0', '--host', '192.0.2.1'],
      ['serve', '--port', '0', '--chat-template', missing], ['serve', '--port', '0', '--chat-template', folder],
      ['serve', '--port', '0', '--session.store', folder],
      ['gateway', '--port', '0', '--backend', 'http://127.0.0.1:1', '--gateway.access-log', path.join(nowhere, 'log')],
      ...[missing, foreign].map((file) => ['gateway', '--port', '0', '--backend', 'http://127.0.0.1:1', '--gateway.tls-certificate', file, '--gateway.tls-key', file]),
      ['keys', 'list', '--keys', folder], ['keys', 'list', '--keys', badJson], ...[['list'], ['list', '--json'], ['show', 'key_0'], ['revoke', 'key_0']].map((action) => ['keys', ...action, '--keys', missing]),
    ];
    for (const [code, commands] of [[2, wrong], [1, failed]]) {
      for (const command of commands) {
        const ended = tidemill(command);
        assert.equal(ended.code, code, `${command.join(' ')}: ${ended.err}`);
        assert.match(ended.err, /^tidemill: /m);
      }
    }
  });

  test('keys are made, listed, shown and revoked, and the secret is shown once', () => {
    const file = path.join(folder, 'keys.json');
    const keys = (...args) => tidemill(['keys', ...args, '--keys', file]);
    const made = keys('create', '--tenant', 'acme', '--name', 'ci', '--scope', 'generate,read', '--model', 'qwen3-*', '--expires', '90d', '--json');
    assert.equal(made.code, 0, made.err);
    const key = JSON.parse(made.out);
    assert.match(key.secret, /^tm-[\w-]{43}$/);
    assert.deepEqual(key.scopes, ['generate', 'read']);
    assert.ok(Math.abs(key.expires - key.created - 90 * 86400) < 5);
    assert.ok(!readFileSync(file, 'utf8').includes(key.secret.slice(3)));
    assert.ok(readFileSync(file, 'utf8').includes(createHash('sha256').update(key.secret).digest('hex')));
    const elsewhere = tidemill(['keys', 'list', '--keys', path.join(folder, 'misspelt.json')]);
    assert.match(elsewhere.err, /no key was ever kept in .*misspelt\.json.*keys create/);
    const text = keys('create', '--tenant', 'other', '--name', 'x');
    assert.match(text.out, /tm-[\w-]{43}\n\nKeep the secret now/);
    for (const shown of [keys('list'), keys('list', '--json'), keys('show', key.id), keys('show', key.id, '--json')]) {
      assert.equal(shown.code, 0, shown.err);
      assert.ok(shown.out.includes(key.id));
      assert.ok(!shown.out.includes(key.secret));
    }
    assert.equal(JSON.parse(keys('list', '--json').out).length, 2);
    assert.equal(JSON.parse(keys('list', '--tenant', 'acme', '--json').out).length, 1);
    assert.equal(keys('revoke', key.id).code, 0);
    assert.equal(JSON.parse(keys('show', key.id, '--json').out).state, 'revoked');
    const unknown = keys('revoke', 'key_0');
    assert.equal(unknown.code, 1);
    assert.match(unknown.err, /key_0.*keys list/);
    for (const [args, reason] of [[['create', '--tenant', 'a', '--name', 'b', '--scope', 'reed'], /reed.*read/],
      [['create', '--tenant', 'a', '--name', 'b', '--expires', '2001-01-01'], /expiry/],
      [['create', '--tenant', 'a', '--name', 'b', '--expires', 'soon'], /soon.*90d/],
      [['create', '--tenant', 'a'], /--name/], [['crate'], /crate.*create/]]) {
      const wrong = tidemill(['keys', ...args]);
      assert.equal(wrong.code, 2, wrong.err);
      assert.match(wrong.err, reason);
    }
    const down = tidemill(['keys', 'list', '--keys', 'redis://:hush@127.0.0.1:1/0']);
    assert.equal(down.code, 1);
    assert.match(down.err, /127\.0\.0\.1:1/);
    assert.ok(!down.err.includes('hush'));
  });

  test('a file that may grow no further is an error', () => {
    const file = path.join(folder, 'limited.gguf');
    const bounded = ['-c', 'ulimit -f 8; exec "$0" synth llama-tiny "$1"', program, file];
    const done = spawnSync('bash', bounded, { encoding: 'utf8' });
    assert.equal(done.signal, null, 'no signal ends it');
    assert.equal(done.status, 1, done.stderr);
    assert.match(done.stderr, /limited\.gguf.*File too large/);
  });

  test('a full disk is an error, a reader that has gone is none', () => {
    const quoted = JSON.stringify(program);
    const long = `${quoted} complete --prompt 'def f(' --max-tokens 2000 --ignore-eos --temperature 0`;
    const shell = (script) => spawnSync('bash', ['-c', script], { encoding: 'utf8' });
    if (existsSync('/dev/full')) {
      for (const command of [`${quoted} version`, `${quoted} inspect --json`, `${quoted} --help`, `${quoted} chat --help`, quoted, long]) {
        const full = shell(`${command} > /dev/full`);
        assert.equal(full.status, 1, command);
        assert.match(full.stderr, /standard output/);
      }
    }
    const many = 'yes "x = 1 def foo" | head -n 20000';
    for (const command of [long, `${many} | ${quoted} tokenize --json`]) {
      const gone = shell(`${command} | head -c 10 | wc -c; echo \${PIPESTATUS[@]}`);
      assert.equal(gone.stdout.split('\n')[0].trim(), '10');
      assert.equal(gone.stderr, '');
    }
  });

  test('serve names a misspelt option and its neighbour', () => {
    const flag = tidemill(['serve', '--prot', '80']);
    assert.equal(flag.code, 2);
    assert.match(flag.err, /--prot.*--port/);
    const variable = tidemill(['serve'], { env: { TIDEMILL_SERVER_PROT: '80' } });
    assert.equal(variable.code, 2);
    assert.match(variable.err, /TIDEMILL_SERVER_PORT/);
    const file = path.join(folder, 'tidemill.toml');
    writeFileSync(file, '[server]\nprot = 80\n');
    const key = tidemill(['serve', '--config', file]);
    assert.equal(key.code, 2);
    assert.match(key.err, /server\.prot.*server\.port/s);
  });

  test("what the engine refuses is said in the options' names", () => {
    const memory = tidemill(['serve', '--port', '0', '--engine.kv-memory', '5B']);
    assert.equal(memory.code, 2);
    assert.match(memory.err, /engine\.kv_memory: the KV cache may take 5 bytes/);
    const context = tidemill(['serve', '--port', '0', '--max-context', '1000000']);
    assert.equal(context.code, 2);
    assert.match(context.err, /engine\.max_context/);
  });

  test('an API key that would guard nothing is refused', () => {
    const unset = tidemill(['serve'], { env: { TIDEMILL_SERVER_API_KEY: '' } });
    assert.equal(unset.code, 2);
    assert.match(unset.err, /TIDEMILL_SERVER_API_KEY.*not empty/);
    const behind = tidemill(['up', '--server.api-key', 'secret']);
    assert.equal(behind.code, 2);
    assert.match(behind.err, /gateway\.keys/);
  });

  test('reports a missing, foreign or truncated model', () => {
    const missing = tidemill(['complete', '--model', path.join(folder, 'no.gguf'), '--prompt', 'x']);
    assert.equal(missing.code, 1);
    assert.match(missing.err, /no\.gguf/);
    const foreign = path.join(folder, 'foreign.gguf');
    writeFileSync(foreign, 'this is no model at all, but long enough to be looked at');
    assert.match(tidemill(['inspect', foreign]).err, /GGUF/);
    const cut = path.join(folder, 'cut.gguf');
    writeFileSync(cut, readFileSync('models/nano-coder.gguf').subarray(0, 5_000_000));
    const truncated = tidemill(['inspect', cut]);
    assert.equal(truncated.code, 1);
    assert.match(truncated.err, /cut\.gguf/);
  });

  test('version and inspect speak JSON', () => {
    assert.match(JSON.parse(tidemill(['version', '--json']).out).version, /^\d+\.\d+\.\d+$/);
    const model = JSON.parse(tidemill(['inspect', '--json', '--tensors']).out);
    assert.equal(model.architecture, 'llama');
    assert.equal(model.shape.layers, 6);
    assert.equal(model.tensors.length, model.tensor_count);
  });

  test('inspect shows what a file says, whatever it says', () => {
    const file = path.join(folder, 'odd.gguf');
    const name = Buffer.concat([Buffer.from('模型 é \x1b[31m'), Buffer.from([0xff])]);
    const words = Array.from({ length: 40 }, (_, i) => ggufText(`w${i}`));
    const list = [Buffer.from([8, 0, 0, 0]), u64(40), ...words];
    writeFileSync(file, ggufOf([
      ['general.architecture', 8, ggufText('bert')],
      ['general.name', 8, ggufText(name)],
      [Buffer.from([0x6b, 0xfe]), 7, Buffer.from([1])],
      ['bert.block_count', 4, Buffer.from([12, 0, 0, 0])],
      ['bert.epsilon', 6, Buffer.from(Float32Array.of(1e-5).buffer)],
      ['bert.sizes', 9, Buffer.concat([Buffer.from([4, 0, 0, 0]), u64(2), Buffer.from([1, 0, 0, 0, 2, 0, 0, 0])])],
      ['bert.words', 9, Buffer.concat(list)],
    ]));
    const json = tidemill(['inspect', file, '--json']);
    assert.equal(json.code, 0, json.err);
    const { metadata } = JSON.parse(json.out);
    assert.deepEqual(metadata, {
      'general.architecture': 'bert', 'general.name': '模型 é \x1b[31m\ufffd', 'k\ufffd': true, 'bert.block_count': 12,
      'bert.epsilon': 1e-5, 'bert.sizes': [1, 2],
      'bert.words': { type: 'string', count: 40, first: ['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w7'] },
    });
    const plain = tidemill(['inspect', file]);
    assert.equal(plain.code, 0, plain.err);
    assert.match(plain.out, /模型 é \ufffd\[31m\ufffd/);
    assert.ok(!plain.out.includes('\x1b'));
  });

  test('a file name is no way into a terminal or a JSON text', () => {
    const odd = "$'we\\x1b[31m\\xffird.gguf'";
    const shown = spawnSync('bash', ['-c', `cd "$1" && cp "$2" ${odd} && exec "$0" inspect ${odd} --json`, path.resolve(program), folder, path.resolve('models/nano-coder.gguf')], { env: process.env });
    assert.equal(shown.status, 0, shown.stderr.toString());
    const text = new TextDecoder('utf-8', { fatal: true }).decode(shown.stdout);
    assert.equal(JSON.parse(text).file, 'we\x1b[31m\ufffdird.gguf');
    const missing = tidemill(['inspect', 'no\x1b[31m.gguf']);
    assert.match(missing.err, /no\ufffd\[31m\.gguf/);
    assert.ok(!missing.err.includes('\x1b'));
  });

  test('tokenizes and turns tokens back', () => {
    const text = 'def f(x):\n    return x * 2  # é\n';
    const ids = JSON.parse(tidemill(['tokenize', '--json', '--no-bos'], { input: text }).out);
    assert.ok(ids.every(Number.isInteger));
    assert.equal(tidemill(['tokenize', '--decode'], { input: JSON.stringify(ids) }).out, text);
    assert.deepEqual(JSON.parse(tidemill(['tokenize', '--decode', '--json'], { input: JSON.stringify(ids) }).out), { text });
    const plain = JSON.parse(tidemill(['tokenize', '--json', '--no-bos'], { input: '</s>' }).out);
    const special = JSON.parse(tidemill(['tokenize', '--json', '--no-bos', '--special'], { input: '</s>' }).out);
    assert.ok(plain.length > 1);
    assert.equal(special.length, 1);
    assert.deepEqual(JSON.parse(tidemill(['tokenize', '--json', '--no-bos'], { input: '' }).out), []);
  });

  test('renders templates', () => {
    const template = path.join(folder, 't.jinja');
    writeFileSync(template, "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{{ strftime_now('%Y-%m-%d') }}{{ x }}");
    const request = path.join(folder, 'r.json');
    writeFileSync(request, JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }], bos_token: '<s>', x: 3 }));
    const shown = tidemill(['template', '--file', template, '--input', request, '--now', '2026-01-15T12:30:00']);
    assert.equal(shown.out, '<s>[user] Hi\n2026-01-153');
    for (const [now, year] of [['2024-02-29', '2024'], ['1768480200', '2026']]) {
      const leap = tidemill(['template', '--file', template, '--input', request, '--now', now]);
      assert.match(leap.out, new RegExp(`${year}-\\d\\d-\\d\\d3$`));
    }
    for (const now of ['2026-02-30T00:00:00', '2025-02-29', '2026-04-31', '2026-13-01', '2026-01-15T24:00:00', '2026-01-15T12:30:60', '9999-01-01', '99999999999999']) {
      const refused = tidemill(['template', '--file', template, '--input', request, '--now', now]);
      assert.equal(refused.code, 2, now);
      assert.match(refused.err, /is no time/);
    }
    writeFileSync(template, '{{ nothing.at.all }}');
    const wrong = tidemill(['template', '--file', template, '--input', request]);
    assert.equal(wrong.code, 2);
    assert.match(wrong.err, /line 1/);
  });

  test('renders by the rules of the reference, or by those of the server', () => {
    const template = path.join(folder, 'appends.jinja');
    writeFileSync(template, "{% set names = [] %}{% for m in messages %}{% if m.tool_calls %}{% for c in m.tool_calls %}{% set _ = names.append(c.function.name) %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}{{ names | join(',') }}");
    const request = path.join(folder, 'appends.json');
    const call = { type: 'function', function: { name: 'f', arguments: { a: 1 } } };
    writeFileSync(request, JSON.stringify({ messages: [{ role: 'user', content: 'Hi' }, { role: 'assistant', content: '', tool_calls: [call] }], tools: [] }));
    const refused = tidemill(['template', '--file', template, '--input', request]);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /append/);
    const served = tidemill(['template', '--as-served', '--file', template, '--input', request]);
    assert.equal(served.out, 'Hi<tool_call>f {"a": 1}</tool_call>f');
  });

  test('completes text alone, the same each time', () => {
    const args = ['complete', '--prompt', 'def add(a, b):\n', '--max-tokens', '20', '--temperature', '0'];
    const first = tidemill(args);
    assert.equal(first.code, 0, first.err);
    assert.equal(first.out, tidemill(args).out);
    const json = JSON.parse(tidemill([...args, '--json']).out);
    assert.equal(json.text, first.out);
    assert.ok(json.tokens.length <= 20);
    assert.equal(tidemill([...args, '--ignore-eos', '--threads', '1']).out.slice(0, first.out.length), first.out);
    for (const isa of ['scalar', 'avx2']) {
      const other = tidemill(args, { env: { TIDEMILL_ISA: isa } });
      if (other.code === 0) assert.equal(other.out, first.out, isa);
      else assert.match(other.err, /not available|cannot run/);
    }
  });

  test('tells the story that llama2.c tells', (t) => {
    const model = path.join(data, 'models/stories260K.gguf');
    if (!existsSync(model)) return t.skip(`needs ${model}; set TIDEMILL_DATA`);
    const golden = readFileSync(path.join(data, 'models/stories260K.golden.txt'), 'utf8').trimEnd();
    const told = tidemill(['complete', '--model', model, '--prompt', '', '--max-tokens', '256', '--temperature', '0']);
    assert.equal(told.code, 0, told.err);
    assert.ok(told.out.startsWith(golden), told.out);
  });

  test('chats with one message or many', () => {
    const one = tidemill(['chat', '--message', 'import os', '-n', '5', '--temperature', '0', '--json']);
    assert.equal(one.code, 0, one.err);
    assert.equal(JSON.parse(one.out).role, 'assistant');
    const two = tidemill(['chat', '-n', '5', '--temperature', '0', '--json'], { input: 'import os\nimport sys\n' });
    assert.equal(two.out.trim().split('\n').length, 2);
    assert.equal(two.out.split('\n')[0], one.out.trim());
  });

  test('a chat ends each answer with a line end, and keeps reasoning apart', () => {
    const flags = ['-n', '24', '--temperature', '0'];
    const one = tidemill(['chat', '--message', 'import os', ...flags]);
    const said = JSON.parse(tidemill(['chat', '--message', 'import os', '--json', ...flags]).out).content;
    assert.equal(one.out, said.endsWith('\n') ? said : `${said}\n`);
    const many = tidemill(['chat', ...flags], { input: 'import os\n/clear\nimport os' });
    assert.equal(many.out, one.out + one.out);

    const template = path.join(folder, 'thinks.jinja');
    writeFileSync(template, '{% for m in messages %}{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}');
    const thought = tidemill(['chat', '--chat-template', template, '--message', 'import os', '--json', ...flags]);
    const { content, reasoning_content: reasoning, finish_reason } = JSON.parse(thought.out);
    assert.ok(reasoning.length > 0);
    assert.deepEqual([content, finish_reason], ['', 'length']);
    const shown = tidemill(['chat', '--chat-template', template, '--message', 'import os', ...flags]);
    assert.equal(shown.out, reasoning.endsWith('\n') ? reasoning : `${reasoning}\n`);
    const brief = ['chat', '--chat-template', template, '--message', 'import os', '--thinking-token-budget', '8', ...flags];
    const both = JSON.parse(tidemill([...brief, '--json']).out);
    assert.ok(reasoning.startsWith(both.reasoning_content) && both.content.length > 0);
    const apart = both.reasoning_content.endsWith('\n') ? '\n' : '\n\n';
    assert.equal(tidemill(brief).out.trimEnd(), `${both.reasoning_content}${apart}${both.content}`.trimEnd());
  });

  test('a chat refuses flags that ask for nothing', () => {
    for (const [args, words] of [
      [['--message', ''], /--message is empty/],
      [['--message', 'x', '--mcp', ''], /--mcp is empty/],
      [['--message', 'x', '--tool-choice', 'required'], /--tool-choice required.*--mcp/],
    ]) {
      const refused = tidemill(['chat', ...args], { input: 'import os\n' });
      assert.equal(refused.code, 2, refused.err);
      assert.match(refused.err, words);
      assert.equal(refused.out, '');
    }
  });

  test('starts beside Services of Kubernetes that bear its name', () => {
    const env = {
      TIDEMILL_SERVICE_HOST: '10.0.0.1', TIDEMILL_SERVICE_PORT: '8080', TIDEMILL_PORT: 'tcp://10.0.0.1:8080',
      TIDEMILL_SERVER_PORT: 'tcp://10.0.0.1:8080', TIDEMILL_GATEWAY_PORT_8080_TCP_ADDR: '10.0.0.2',
      TIDEMILL_PROGRAM: program,
    };
    for (const command of ['serve', 'gateway', 'up']) {
      const shown = tidemill([command, '--print-config'], { env });
      assert.equal(shown.code, 0, shown.err);
      assert.match(shown.out, /^port = 8080  # default$/m);
      assert.match(shown.err, /TIDEMILL_SERVER_PORT.*Kubernetes/);
    }
    const misspelt = tidemill(['serve', '--print-config'], { env: { TIDEMILL_SERVICE_PORT: '8080' } });
    assert.equal(misspelt.code, 2);
    assert.match(misspelt.err, /TIDEMILL_SERVICE_PORT/);
  });

  test('up refuses the option that its gateway does not relay', () => {
    const refused = tidemill(['up', '--server.mcp', '--gateway.port', '0']);
    assert.equal(refused.code, 2);
    assert.match(refused.err, /server\.mcp.*tidemill serve --mcp/);
  });

  test('leaves nothing of a model that was interrupted', async () => {
    for (const signal of ['SIGINT', 'SIGTERM']) {
      const own = mkdtempSync(path.join(folder, 'synth-'));
      const child = spawn(program, ['synth', 'llama-3.2-1b', path.join(own, 'model.gguf')], { stdio: ['ignore', 'ignore', 'pipe'] });
      const exited = once(child, 'exit');
      const said = child.stderr.setEncoding('utf8').toArray();
      // The file has no name yet.
      while (!opens(child.pid, own)) await new Promise(setImmediate);
      child.kill(signal);
      assert.deepEqual(await exited, [130, null]);
      assert.match((await said).join(''), /not finished/);
      assert.deepEqual(readdirSync(own), []);
    }
  });

  test('packs a model, which every command takes, and refuses damage', () => {
    const source = 'models/nano-coder.gguf';
    const packed = path.join(folder, 'packed.gguf');
    const made = tidemill(['pack', source, packed, '--json']);
    assert.equal(made.code, 0, made.err);
    assert.equal(JSON.parse(made.out).bytes, readFileSync(packed).length);
    const shown = JSON.parse(tidemill(['inspect', packed, '--json']).out);
    const plain = JSON.parse(tidemill(['inspect', source, '--json']).out);
    assert.deepEqual([shown.packed.source, shown.packed.loadable], ['nano-coder.gguf', true]);
    assert.deepEqual([shown.shape, shown.parameters], [plain.shape, plain.parameters]);
    assert.match(tidemill(['inspect', packed, '--tensors']).out, /packed in layout \d+ by tidemill.*attn_q\.weight +\S+ +\[[\d, ]+\] packed/s);
    for (const command of [
      ['complete', '--prompt', 'def fibonacci(n):', '--max-tokens', '24', '--temperature', '0'],
      ['tokenize', '--text', 'import os', '--json'],
      ['chat', '--message', 'import os', '-n', '5', '--temperature', '0', '--json'],
    ]) {
      const [one, two] = [source, packed].map((model) => tidemill([...command, '-m', model]));
      assert.equal(two.code, 0, two.err);
      assert.equal(two.out, one.out);
    }
    const again = tidemill(['pack', packed, path.join(folder, 'again.gguf')]);
    assert.equal(again.code, 1);
    assert.match(again.err, /packed already/);
    const bytes = readFileSync(packed);
    bytes[bytes.length >> 1] ^= 1;
    const damaged = path.join(folder, 'damaged.gguf');
    writeFileSync(damaged, bytes);
    const refused = tidemill(['complete', '-m', damaged, '--prompt', 'x']);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /damaged\.gguf: tensor '.*' is damaged.*tidemill pack/);
  });

  test('converts a model, which computes the same', () => {
    const source = 'models/nano-coder.gguf';
    const copy = path.join(folder, 'converted.gguf');
    const made = tidemill(['convert', source, copy, '--json']);
    assert.equal(made.code, 0, made.err);
    assert.deepEqual(JSON.parse(made.out).converted, 0);
    assert.equal(JSON.parse(made.out).bytes, readFileSync(copy).length);
    const wide = path.join(folder, 'wide.gguf');
    const widened = tidemill(['convert', copy, wide, '--type', 'f32']);
    assert.equal(widened.code, 0, widened.err);
    assert.match(widened.out, /wide\.gguf: \d+ tensors, \d+ of them converted/);
    const matrices = JSON.parse(tidemill(['inspect', wide, '--json']).out);
    assert.deepEqual(Object.keys(matrices.types), ['F32']);
    assert.equal(matrices.form, 'gguf');
    const text = ['complete', '--prompt', 'def fibonacci(n):', '--max-tokens', '24', '--temperature', '0'];
    const [one, two] = [source, copy].map((model) => tidemill([...text, '-m', model]));
    assert.equal(two.code, 0, two.err);
    assert.equal(two.out, one.out);
  });

  test('quantises a model, goes on after a kill, and never over what is not its own', async () => {
    const source = 'models/nano-coder.gguf';
    const own = mkdtempSync(path.join(folder, 'quantised-'));
    const small = path.join(own, 'int8.gguf');
    const made = tidemill(['quantize', source, small, '--json']);
    assert.equal(made.code, 0, made.err);
    const summary = JSON.parse(made.out);
    assert.deepEqual([summary.type, summary.changed, summary.of_type, summary.resumed, summary.other_types], ['Q8_0', 43, 43, 0, []]);
    assert.equal(summary.bytes, readFileSync(small).length);
    assert.deepEqual(Object.keys(JSON.parse(tidemill(['inspect', small, '--json']).out).types).sort(), ['F32', 'Q8_0']);
    assert.ok(tidemill(['complete', '-m', small, '--prompt', 'import os', '-n', '4']).out.length > 0);
    assert.deepEqual(readdirSync(own), ['int8.gguf']);

    const text = path.join(folder, 'calibration.py');
    writeFileSync(text, 'import os\n\ndef area(width, height):\n    return width * height\n\n'.repeat(40));
    const careful = path.join(own, 'q4.gguf');
    const calibrated = tidemill(['quantize', source, careful, '--type', 'q4_k', '--tensor', 'token_embd.*=q6_k', '--calibrate', text]);
    assert.equal(calibrated.code, 0, calibrated.err);
    assert.match(calibrated.out, /43 of them changed; matrices: 42 in Q4_K, 1 in Q6_K; .* less in weights\n  \d+ norms took outlier channels in, 42 matrices made up/s);

    const mixed = tidemill(['quantize', source, careful, '--bits', '8.32', '--calibrate', text, '--json']);
    assert.equal(mixed.code, 0, mixed.err);
    const { mixture_bits: bits, type, other_types: others } = JSON.parse(mixed.out);
    assert.ok(type === 'Q8_0' && bits <= 8.32 && bits > 7, mixed.out);
    assert.ok(others.length > 0);

    const large = path.join(own, 'f16.gguf');
    const grown = tidemill(['quantize', careful, large, '--type', 'f16']);
    assert.match(grown.out, /, [\d.]+ % more in weights\n/);
    rmSync(large);

    // Killed once a part is put down, wherever that is, and asked again.
    const fresh = path.join(own, 'fresh.gguf');
    const wide = (file) => ['quantize', source, file, '--type', 'f32', '--json'];
    const journalled = (file) => {
      try {
        return readFileSync(`${file}.journal`, 'utf8').split('\n').length - 1;
      } catch {
        return 0;  // it is not there yet, or no more
      }
    };
    assert.equal(tidemill(wide(fresh)).code, 0);
    for (let round = 0; round < 3; round++) {
      const out = path.join(own, 'out.gguf');
      const child = spawn(program, wide(out), { stdio: 'ignore' });
      const exited = once(child, 'exit');
      while (journalled(out) < 2 && !existsSync(out) && child.exitCode === null) await new Promise(setImmediate);
      child.kill('SIGKILL');
      await exited;
      const whole = existsSync(`${out}.partial`) ? journalled(out) - 1 : 0;
      if (existsSync(`${out}.partial`) && statSync(`${out}.partial`).size > 0) {
        const other = tidemill(['quantize', source, out, '--type', 'q5_0']);
        assert.equal(other.code, 2);
        assert.match(other.err, /unfinished file of another model or of other options.*--restart/);
        if (readFileSync(`${out}.partial`).subarray(0, 4).toString() !== 'GGUF') {  // as it is but for its last moment
          const looked = tidemill(['inspect', `${out}.partial`]);
          assert.deepEqual([looked.code, looked.out], [1, '']);
        }
      }
      const finished = tidemill(wide(out));
      assert.equal(finished.code, 0, finished.err);
      assert.ok(JSON.parse(finished.out).resumed >= whole, finished.out);
      assert.ok(readFileSync(fresh).equals(readFileSync(out)));
      assert.deepEqual(readdirSync(own).sort(), ['fresh.gguf', 'int8.gguf', 'out.gguf', 'q4.gguf']);
      rmSync(out);
    }
    rmSync(own, { recursive: true });
  });

  test('quantises feed-forward blocks that blocks of 32 do not fit', (t) => {
    const model = path.join(data, 'models/stories260K.gguf');
    if (!existsSync(model)) return t.skip(`needs ${model}; set TIDEMILL_DATA`);
    const small = path.join(folder, 'stories-int8.gguf');
    const made = tidemill(['quantize', model, small, '--json']);
    assert.equal(made.code, 0, made.err);
    const { feed_forward_length: width, other_types: others } = JSON.parse(made.out);
    assert.deepEqual([width, others], [{ source: 172, file: 192 }, []]);
    const told = tidemill(['quantize', model, small]);
    assert.match(told.out, /feed-forward blocks are 192 wide inside instead of 172/);
    const story = tidemill(['complete', '--model', small, '--prompt', 'Once upon a time', '--max-tokens', '16']);
    assert.equal(story.code, 0, story.err);
  });

  test('judges a model by a text and by tasks, beside another', () => {
    const text = path.join(folder, 'text.py');
    writeFileSync(text, 'import os\n\ndef area(width, height):\n    return width * height\n\n'.repeat(40));
    const tasks = path.join(folder, 'tasks.jsonl');
    writeFileSync(tasks, [
      { prompt: 'def f(a, b):\n    return a +', choices: [' b', ' zebra crossing'], answer: ' b', group: 'code' },
      { prompt: 'import os\nimport', answer: ['no module is called this'], max_tokens: 2 },
    ].map((task) => JSON.stringify(task)).join('\n'));
    const judged = tidemill(['eval', '--text', text, '--tasks', tasks, '--window', '128', '--stride', '64', '--plain', '--json']);
    assert.equal(judged.code, 0, judged.err);
    const report = JSON.parse(judged.out);
    assert.deepEqual([report.text.window, report.text.stride], [128, 64]);
    assert.ok(report.text.tokens > 300 && report.text.windows > 3);
    const { score, reference, comparison } = report.text;
    assert.ok(Math.abs(score.perplexity - Math.exp(score.nats_per_token)) < 1e-9 * score.perplexity);
    assert.ok(Math.abs(score.bits_per_byte - score.nats_per_token * report.text.tokens / Math.LN2 / report.text.bytes) < 1e-9);
    assert.ok(Math.abs(score.nats_per_token - reference.nats_per_token) < 0.05);
    assert.ok(comparison.top1_agreement > 0.9 && comparison.kl_mean >= 0 && comparison.kl_p99 >= 0);
    assert.equal(report.reference.arithmetic, 'f32');
    assert.deepEqual(report.tasks.subject.groups.map((group) => group.group), ['code']);
    assert.equal(report.tasks.subject.choices.tasks, 1);
    assert.equal(report.tasks.subject.generated.exact_match, 0);
    assert.equal(report.subject.activations, 'dynamic');
    assert.ok(comparison.kl_max > 0);
    // The same weights with F32 activations are what is held against, of a quarter of the size.
    const small = path.join(folder, 'weight-only.gguf');
    assert.equal(tidemill(['quantize', 'models/nano-coder.gguf', small, '--type', 'int8']).code, 0);
    const weightOnly = JSON.parse(tidemill(['eval', small, '--text', text, '--tokens', '100', '--activations', 'f32', '--kv-type', 'f32', '--plain', '--json']).out);
    assert.equal(weightOnly.subject.activations, 'f32');
    assert.equal(weightOnly.text.comparison.kl_max, 0);
    assert.ok(weightOnly.subject.weight_bytes < 0.3 * weightOnly.reference.weight_bytes);
    const shown = tidemill(['eval', '--text', text, '--tokens', '50']);
    assert.match(shown.out, /text .*text\.py: \d+ tokens.*perplexity.*next tokens right +[\d.]+ %/s);
    assert.equal(shown.err, '');
    const other = path.join(folder, 'other-vocabulary.gguf');
    assert.equal(tidemill(['synth', 'llama-tiny', other]).code, 0);
    // Of nothing right, no part is kept.
    const none = ['eval', other, '--text', text, '--tokens', '1', '--against', other];
    const nothing = JSON.parse(tidemill([...none, '--json']).out).text;
    assert.equal(nothing.reference.accuracy, 0);
    assert.equal(nothing.accuracy_kept, null);
    assert.match(tidemill(none).out, /next tokens right +0\.00 % +0\.00 % +- of them kept/);
    const apart = tidemill(['eval', '--text', text, '--against', other]);
    assert.equal(apart.code, 2);
    assert.match(apart.err, /cannot be compared token by token: the first predicts 4096 tokens, the second 1024/);
  });

  test('synthesises a model and measures it', () => {
    const model = path.join(folder, 'tiny.gguf');
    assert.match(tidemill(['synth', '--list']).out, /llama-3\.2-1b/);
    const made = tidemill(['synth', 'llama-tiny', model, '--type', 'q4_0']);
    assert.equal(made.code, 0, made.err);
    assert.equal(JSON.parse(tidemill(['inspect', model, '--json']).out).architecture, 'llama');
    const bench = tidemill(['bench', model, '--prefill', '32', '--decode', '8', '--streams', '2', '--threads', '2', '--repeat', '1', '--json']);
    assert.equal(bench.code, 0, bench.err);
    const measured = JSON.parse(bench.out);
    for (const key of ['prefill_tok_s', 'decode_tok_s', 'load_s', 'ttft_s', 'rss_bytes', 'kv_bytes', 'activation_bytes']) assert.ok(measured[key] > 0, key);
    assert.ok(measured.ceilings.read_bytes_per_s > 0);
    for (const key of ['load_share_of_read_bandwidth', 'ttft_share_of_ceiling', 'prefill_share_of_ceiling']) assert.ok(measured[key] > 0, key);
    // A model so small comes from the cache, where that is known.
    if (measured.last_level_cache_bytes > measured.weight_bytes + measured.kv_bytes) assert.equal(measured.decode_in_cache, true);
    if (measured.decode_in_cache) assert.equal(measured.decode_share_of_read_bandwidth, null);
    else assert.ok(measured.decode_share_of_read_bandwidth > 0);
    const bytes = readFileSync(model).length;
    const load = bytes / measured.ceilings.read_bytes_per_s / measured.load_s;
    assert.ok(Math.abs(measured.load_share_of_read_bandwidth / load - 1) < 1e-6);
    const over = measured.rss_bytes / (measured.weight_bytes + measured.kv_bytes) - 1;
    assert.ok(Math.abs(measured.memory_over_weights_and_kv - over) < 1e-6);
    const many = JSON.parse(tidemill(['bench', '--prefill', '8', '--decode', '1', '--streams', '300', '--repeat', '1', '--no-ceilings', '--json']).out);
    assert.ok(many.decode_tok_s > 0);
    const behind = tidemill(['bench', model, '--prefill', '8', '--decode', '4', '--streams', '2', '--context', '500', '--synthetic-context', '--kv-type', 'int8', '--repeat', '1', '--no-ceilings', '--json']);
    assert.equal(behind.code, 0, behind.err);
    assert.equal(JSON.parse(behind.out).context_synthetic, true);
    assert.ok(JSON.parse(behind.out).decode_tok_s > 0);
    const part = tidemill(['synth', 'llama-tiny', model, '--layers', '1']);
    assert.equal(part.code, 0, part.err);
    assert.equal(JSON.parse(tidemill(['inspect', model, '--json']).out).shape.layers, 1);
    const unknown = tidemill(['synth', 'llama-9', model]);
    assert.notEqual(unknown.code, 0);
    assert.match(unknown.err, /llama-3\.2-1b/);
    const tooMany = tidemill(['synth', 'llama-tiny', model, '--layers', '3']);
    assert.equal(tooMany.code, 2);
    assert.match(tooMany.err, /llama-tiny has 2 layers: 3 of them is not possible, 1 to 2 are/);
  });

  test('says of an encoder what it is for', () => {
    for (const [shape, words] of [['bert-tiny', /makes embeddings.*serve.*\/v1\/embeddings/], ['rerank-tiny', /scores documents.*serve.*\/v1\/rerank/]]) {
      const model = path.join(folder, `${shape}.gguf`);
      assert.equal(tidemill(['synth', shape, model, '--type', 'q8_0']).code, 0);
      const done = tidemill(['complete', '--model', model, '--prompt', 'x']);
      assert.equal(done.code, 1, done.out);
      assert.match(done.err, words);
    }
  });
});
