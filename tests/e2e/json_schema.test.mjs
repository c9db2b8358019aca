// What the grammar of a JSON Schema allows, against ajv: every text that it allows is JSON that validates, and values
// written in the documented form are allowed. TIDEMILL_SCHEMAS is how many random schemas are tried (250).
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import readline from 'node:readline';
import {after, before, test} from 'node:test';

import Ajv2020 from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import {z} from 'zod';

import {Random, Schemas, wildSchema} from './random_schema.mjs';

const program = process.env.TIDEMILL_SAMPLE_SCHEMA ?? 'build/release/sample_schema';
const schemas = Number(process.env.TIDEMILL_SCHEMAS ?? 250);
const samplesEach = 4;

let sampler;
let answers;

before(() => {
  sampler = spawn(program, {stdio: ['pipe', 'pipe', 'inherit']});
  answers = readline.createInterface({input: sampler.stdout})[Symbol.asyncIterator]();
});
after(() => sampler.stdin.end());

async function ask(request) {
  sampler.stdin.write(JSON.stringify(request) + '\n');
  const {value, done} = await answers.next();
  assert.ok(!done, `the sampler ended at ${JSON.stringify(request.schema)}`);
  return JSON.parse(value);
}

function validator(schema) {
  const ajv = new Ajv2020({strict: false, validateFormats: true, logger: false});
  addFormats(ajv);
  return ajv.compile(schema);
}

function checkSamples(schema, validate, samples) {
  for (const text of samples) {
    let value;
    assert.doesNotThrow(() => { value = JSON.parse(text); }, `${text}\nis no JSON, under ${JSON.stringify(schema)}`);
    assert.ok(validate(value), `${text}\nunder ${JSON.stringify(schema)}\n${JSON.stringify(validate.errors)}`);
  }
  return samples.length;
}

test('texts that are allowed validate, and texts of valid values are allowed', async (t) => {
  let outputs = 0;
  let inputs = 0;
  for (let seed = 1; seed <= schemas; ++seed) {
    const {schema, write} = new Schemas(seed).make();
    const validate = validator(schema);
    const random = new Random(seed + 1e9);
    const texts = Array.from({length: samplesEach}, () => write(random));
    for (const text of texts) assert.ok(validate(JSON.parse(text)), `the test itself is wrong: ${text}\n${JSON.stringify(schema)}`);
    const answer = await ask({schema, seed, count: samplesEach, texts, ...(seed % 3 === 0 ? {lines: true} : {})});
    assert.equal(answer.error, undefined, JSON.stringify(schema));
    outputs += checkSamples(schema, validate, answer.samples);
    texts.forEach((text, i) => assert.ok(answer.accepted[i], `refused: ${text}\nunder ${JSON.stringify(schema)}`));
    inputs += texts.length;
  }
  t.diagnostic(`${schemas} schemas, ${outputs} outputs, ${inputs} inputs`);
  assert.ok(outputs > schemas * samplesEach * 0.9, 'most walks through a grammar should come to an end');
});

test('whatever a schema combines, texts that are allowed validate', async (t) => {
  const values = [null, true, false, 0, 1, 2, -1, 0.5, 2.5, '', 'a', 'bb', 'x-1', 'z', '2024-02-29', 'foo', [], [1], ['a'], [1, 'a'], [null, null],
                  {}, {a: 1}, {b: 'a'}, {c: null}, {a: 'a', b: 1}, {'x-1': 1}, {a: 1, b: 1, c: 1}, {q: 1}, {a: {a: 1}}];
  let outputs = 0;
  const refused = {};
  for (let seed = 1; seed <= schemas; ++seed) {
    const random = new Random(seed + 2e9);
    const schema = wildSchema(random);
    if (typeof schema === 'object') schema.$defs = {shared: wildSchema(random, 1, false)};
    const validate = validator(schema);
    const answer = await ask({schema, seed, count: samplesEach});
    if (answer.error !== undefined) {
      refused[answer.code] = (refused[answer.code] ?? 0) + 1;
      assert.match(answer.code, /^(unsupported|invalid_argument|too_large)$/, `${answer.error}\n${JSON.stringify(schema)}`);
      if (answer.code === 'invalid_argument') {
        const found = values.find((value) => validate(value));
        assert.equal(found, undefined, `${answer.error}\nbut ${JSON.stringify(found)} satisfies ${JSON.stringify(schema)}`);
      }
      continue;
    }
    outputs += checkSamples(schema, validate, answer.samples);
  }
  t.diagnostic(`${schemas} schemas, ${outputs} outputs; refused: ${JSON.stringify(refused)}`);
  assert.ok(outputs > schemas);
});

test('bounds of 64 bits hold to the digit', async (t) => {
  const from = -(2n ** 63n);
  const to = 2n ** 64n - 1n;
  const clamp = (value) => value < from ? from : value > to ? to : value;
  let outputs = 0;
  for (let seed = 1; seed <= schemas; ++seed) {
    const random = new Random(seed + 3e9);
    const wide = () => (BigInt(random.bits()) << 31n | BigInt(random.bits())) >> BigInt(random.below(40)) << BigInt(random.below(3));
    const low = clamp(random.chance(40) ? -wide() : wide());
    const high = clamp(low + BigInt(random.below(random.pick([2, 20, 100000]))));
    const out = random.chance(40);
    const words = out ? ['exclusiveMinimum', 'exclusiveMaximum'] : ['minimum', 'maximum'];
    const [least, most] = out ? [low + 1n, high - 1n] : [low, high];
    const inside = least <= most ? [least, most] : [];
    const texts = [...inside, least - 1n, most + 1n].map(String);
    // JSON.stringify cannot write such integers.
    const schema = `{"type":"integer","${words[0]}":${low},"${words[1]}":${high}}`;
    sampler.stdin.write(`{"schema":${schema},"seed":${seed},"count":${samplesEach},"texts":${JSON.stringify(texts)}}\n`);
    const answer = JSON.parse((await answers.next()).value);
    if (inside.length === 0) {
      assert.equal(answer.code, 'invalid_argument', schema);
      continue;
    }
    assert.equal(answer.error, undefined, schema);
    for (const text of answer.samples) {
      assert.match(text, /^-?\d+$/);
      assert.ok(BigInt(text) >= least && BigInt(text) <= most, `${text} under ${schema}`);
    }
    outputs += answer.samples.length;
    assert.deepEqual(answer.accepted, [true, true, false, false], `${texts} under ${schema}`);
  }
  t.diagnostic(`${outputs} outputs`);
  assert.ok(outputs > schemas);
});

test('items of an enum may be asked to differ', async () => {
  const all = ['a', 'b', 1, 2.5, null, true, [1], {x: 'a'}, 'é', ''];
  let outputs = 0;
  for (let seed = 1; seed <= Math.min(schemas, 100); ++seed) {
    const random = new Random(seed + 4e9);
    const values = all.filter(() => random.chance(60)).concat(['z']).slice(0, 10);
    const schema = {type: 'array', items: {enum: values}, uniqueItems: true};
    if (random.chance(50)) schema.minItems = random.below(values.length + 1);
    if (random.chance(50)) schema.maxItems = random.below(5) + (schema.minItems ?? 0);
    const validate = validator(schema);
    const texts = Array.from({length: 6}, () => Array.from({length: random.below(4)}, () => random.pick(values)));
    const answer = await ask({schema, seed, count: samplesEach, texts: texts.map((items) => JSON.stringify(items))});
    assert.equal(answer.error, undefined, JSON.stringify(schema));
    outputs += checkSamples(schema, validate, answer.samples);
    assert.deepEqual(answer.accepted, texts.map((items) => validate(items)), `${JSON.stringify(texts)} under ${JSON.stringify(schema)}`);
  }
  assert.ok(outputs > 0);
});

test("formats of zod's own are held to", async () => {
  const fields = {
    url: z.url(), uuid: z.uuidv4(), email: z.email(), base64: z.base64(), base64url: z.base64url(), nanoid: z.nanoid(),
    cuid: z.cuid(), cuid2: z.cuid2(), ulid: z.ulid(), xid: z.xid(), ksuid: z.ksuid(), ipv4: z.ipv4(), ipv6: z.ipv6(), cidr: z.cidrv4(),
    cidr6: z.cidrv6(), mac: z.mac(), hex: z.hex(), guid: z.guid(), date: z.iso.date(), datetime: z.iso.datetime(), time: z.iso.time(),
    duration: z.iso.duration(), e164: z.e164(), int32: z.int32(), lower: z.string().lowercase().max(20), kind: z.enum(['a', 'b']),
    hostname: z.hostname(), short: z.hostname().max(30), emoji: z.emoji(), few: z.emoji().max(5), domain: z.string().regex(z.regexes.domain),
    older: z.email({pattern: /^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$/}),
  };
  for (const [name, type] of Object.entries(fields)) {
    const schema = z.toJSONSchema(type);
    const answer = await ask({schema, seed: 5, count: 8});
    assert.equal(answer.error, undefined, name);
    assert.ok(answer.samples.length > 0, name);
    checkSamples(schema, validator(schema), answer.samples);
    for (const text of answer.samples) assert.ok(type.safeParse(JSON.parse(text)).success, `${name}: ${text}`);
  }
});

test('patterns that look ahead at their beginning, and several checks of zod on one text, are held to', async () => {
  const cases = [
    [z.string().startsWith('ab').endsWith('z'), 'ab--z', 'ab--y'],
    [z.email().endsWith('@x.com'), 'a.b@x.com', 'a.b@y.com'],
    [z.uuid().startsWith('a'), 'a23e4567-e89b-42d3-a456-426614174000', '123e4567-e89b-42d3-a456-426614174000'],
    [z.string().includes('@').includes('.'), '.@', '@'],
    [z.nanoid().startsWith('x'), 'x'.repeat(21), 'y'.repeat(21)],
    [z.string().regex(/^(?=.*[A-Z])(?=.*\d)(?!.*--)[\w-]{4,}$/), 'aB-1', 'aB--1'],
    [z.string().regex(/^(?!(?:admin|root)$)[a-z]+$/), 'roots', 'root'],
  ];
  for (const [type, good, bad] of cases) {
    const schema = z.toJSONSchema(type);
    assert.deepEqual([good, bad].map((text) => type.safeParse(text).success), [true, false], JSON.stringify(schema));
    const answer = await ask({schema, seed: 6, count: 4, texts: [good, bad].map((text) => JSON.stringify(text))});
    assert.equal(answer.error, undefined, JSON.stringify(schema));
    assert.deepEqual(answer.accepted, [true, false], JSON.stringify(schema));
    for (const text of answer.samples) assert.ok(type.safeParse(JSON.parse(text)).success, `${text} under ${JSON.stringify(schema)}`);
  }
});

test("zod's jwt is three parts of base64url, whatever they say", async () => {
  const token = [{alg: 'HS256', kid: 'a'}, {sub: '12'}].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.') + '.c2lnbmVk';
  assert.ok(z.jwt().safeParse(token).success);
  const answer = await ask({schema: z.toJSONSchema(z.jwt()), seed: 5, count: 8, texts: [JSON.stringify(token), '"a.b"']});
  assert.deepEqual(answer.accepted, [true, false]);
  for (const text of answer.samples) assert.match(JSON.parse(text), /^eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+$/);
});

test('a format without a pattern is held to, and regular expressions are', async () => {
  for (const format of ['regex', 'url', 'duration', 'hostname', 'uri-template', 'relative-json-pointer', 'byte', 'int64']) {
    for (const bounds of [{}, {maxLength: 20}, {minLength: 1}]) {
      const schema = {type: format === 'int64' ? 'integer' : 'string', format, ...bounds};
      const answer = await ask({schema, seed: 9, count: 20});
      assert.equal(answer.error, undefined, JSON.stringify(schema));
      assert.ok(answer.samples.length > 0, JSON.stringify(schema));
      checkSamples(schema, validator(schema), answer.samples);
    }
  }
  const refused = await ask({schema: {type: 'object', properties: {place: {type: 'string', format: 'multi-host-uri'}}}});
  assert.equal(refused.code, 'unsupported');
  assert.match(refused.error, /#\/properties\/place\/format.*"multi-host-uri"/);
});
