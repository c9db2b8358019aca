// Random JSON Schemas from a seed, each with a way to write values that satisfy it in the form of
// docs/structured-output.md. Knows nothing of how Tidemill translates schemas.

export class Random {
  constructor(seed) { this.state = BigInt.asUintN(64, BigInt(seed) * 0x9E3779B97F4A7C15n + 1n); }
  bits() {  // xorshift64*
    let x = this.state;
    x ^= x >> 12n; x = BigInt.asUintN(64, x ^ (x << 25n)); x ^= x >> 27n;
    this.state = x;
    return Number(BigInt.asUintN(64, x * 0x2545F4914F6CDD1Dn) >> 33n);
  }
  below(n) { return this.bits() % n; }
  between(low, high) { return low + this.below(high - low + 1); }
  chance(percent) { return this.below(100) < percent; }
  pick(list) { return list[this.below(list.length)]; }
}

const characters = ['a', 'b', 'Z', '0', '9', ' ', '-', '_', '/', '"', '\\', '\n', '\t', '\u0001', '{', '}', 'é', '字', '😀', '\u2028'];
const someText = (random, length) => Array.from({length}, () => random.pick(characters)).join('');

// A string in quotation marks, each character raw or escaped in one of the ways that JSON has.
function writeString(random, text) {
  let out = '"';
  for (const character of text) {
    if (random.chance(15)) {
      for (let i = 0; i < character.length; ++i) out += '\\u' + character.charCodeAt(i).toString(16).padStart(4, '0');
    } else {
      out += character === '/' && random.chance(30) ? '\\/' : JSON.stringify(character).slice(1, -1);
    }
  }
  return out + '"';
}

const patterns = [
  ['^[a-z]{2,5}$', (r) => Array.from({length: r.between(2, 5)}, () => r.pick('abcxyz')).join('')],
  ['^\\d+$', (r) => String(r.below(100000))],
  ['foo', (r) => someText(r, r.below(3)) + 'foo' + someText(r, r.below(3))],
  ['^(a|bc)*d?$', (r) => Array.from({length: r.below(5)}, () => r.pick(['a', 'bc'])).join('') + r.pick(['', 'd'])],
  ['^[^"\\\\]$', (r) => r.pick(['a', 'é', '😀', '\n'])],
  ['[A-Z]$', (r) => someText(r, r.below(3)) + r.pick('ABZ')],
  ['^.{3}', (r) => 'é字😀' + someText(r, r.below(3))],
  ['^\\w+@\\w+\\.(com|org)$', (r) => `a_${r.below(9)}@b.${r.pick(['com', 'org'])}`],
  ['^\\p{L}+$', (r) => r.pick(['é', 'abc', '字'])],
  ['^(?:\\+\\d{1,2} )?\\d{3}-\\d{4}$', (r) => r.pick(['', '+49 ']) + '555-0123'],
  ['\\S', (r) => ' x' + someText(r, 2)],
  ['^x|y$', (r) => r.pick(['x' + someText(r, 2), someText(r, 2) + 'y'])],
];

const formats = {
  date: ['2024-02-29', '1999-12-31', '2023-04-30'],
  time: ['23:59:59Z', '00:00:00.5+02:00'],
  'date-time': ['2024-02-29T12:00:00Z', '2000-01-01T00:00:00.123-08:00'],
  duration: ['P1D', 'PT5M', 'P1Y2M3DT4H5M6S', 'P3W'],
  email: ['a@b.co', "first.last+tag'x@sub.example.org"],
  hostname: ['example.com', 'a', 'x-1.y-2.z'],
  ipv4: ['127.0.0.1', '255.255.255.255'],
  ipv6: ['::1', 'fe80::1:2', '1:2:3:4:5:6:7:8', '::'],
  uuid: ['123e4567-e89b-12d3-a456-426614174000'],
  uri: ['https://example.com/a?b=c#d', 'mailto:a@b.co', 'urn:isbn:123'],
  'uri-reference': ['https://example.com/a?b=c#d', '../a/b', '', '//host/x', '#top'],
  'uri-template': ['/users/{id}', 'http://a/{?q,lang}', ''],
  'json-pointer': ['', '/a/0/~1~0', '/é'],
  'relative-json-pointer': ['0', '1/a', '12#'],
  byte: ['', 'TWFu', 'TWE=', 'TQ=='],
};

const leaf = {
  null: () => ({schema: {type: 'null'}, write: () => 'null'}),
  boolean: () => ({schema: {type: 'boolean'}, write: (r) => r.pick(['true', 'false'])}),
  integer(random) {
    let low = random.chance(60) ? random.between(-1500, 1500) : undefined;
    let high = random.chance(60) ? (low ?? random.between(-1500, 1500)) + random.below(random.pick([3, 50, 5000])) + 3 : undefined;
    const schema = {type: 'integer'};
    if (low !== undefined) random.chance(30) ? schema.exclusiveMinimum = low++ : schema.minimum = low;
    if (high !== undefined) random.chance(30) ? schema.exclusiveMaximum = high-- : schema.maximum = high;
    const from = low ?? (high ?? 100) - 1000;
    const to = high ?? (low ?? 0) + 1000;
    if (to - from > 20 && random.chance(20)) {
      const step = schema.multipleOf = random.pick([2, 3, 5, 7, 10]);
      return {schema, write: (r) => String(Math.ceil(from / step) * step + step * r.below(Math.floor((to - Math.ceil(from / step) * step) / step) + 1) || 0)};
    }
    return {schema, write: (r) => String(r.between(from, to))};
  },
  number(random) {
    const schema = {type: 'number'};
    const digits = random.below(4);
    const unit = 10 ** digits;
    const low = random.between(-3000, 3000) / unit;
    const high = Number((low + (random.below(5000) + 3) / unit).toFixed(digits));
    const kind = random.below(4);
    if (kind & 1) schema[random.chance(50) ? 'minimum' : 'exclusiveMinimum'] = low;
    if (kind & 2) schema[random.chance(50) ? 'maximum' : 'exclusiveMaximum'] = high;
    return {schema, write(r) {
      const text = ((low * unit + 1 + r.below(Math.round((high - low) * unit) - 1)) / unit).toFixed(digits + r.below(3));
      return /^-0\.?0*$/.test(text) ? text.slice(1) : text;
    }};
  },
  width(random) {
    const [format, low, high] = random.pick([['int32', -2147483648, 2147483647], ['uint8', 0, 255], ['int64', -1e15, 1e15], ['double', -5, 5]]);
    return {schema: {type: 'integer', format}, write: (r) => String(r.pick([low, high, 0, r.between(0, 5)]))};
  },
  string(random) {
    const schema = {type: 'string'};
    const low = random.chance(40) ? schema.minLength = random.below(4) : 0;
    if (random.chance(40)) schema.maxLength = low + random.below(6);
    return {schema, write: (r) => writeString(r, someText(r, low + r.below((schema.maxLength ?? low + 8) - low + 1)))};
  },
  pattern(random) {
    const [pattern, sample] = random.pick(patterns);
    return {schema: {type: 'string', pattern}, write: (r) => JSON.stringify(sample(r))};
  },
  format(random) {
    const format = random.pick(Object.keys(formats));
    const schema = {type: 'string', format};
    if (random.chance(30)) schema.maxLength = format === 'ipv6' ? 39 : random.between(62, 300);
    const simple = {uri: 'http://a.b/c?d', 'uri-reference': '../a/b?c', 'uri-template': '/users/{id}', 'json-pointer': '/a/b'}[format];
    return {schema, write: (r) => JSON.stringify(schema.maxLength && simple ? simple : r.pick(formats[format]))};
  },
  enum(random) {
    const values = Array.from({length: random.between(1, 5)}, () => random.pick(
        [null, true, 0, -1.5, 1e21, 7, 'a', '', 'é"\\\n', [1, 'x', []], {k: [null], 'a b': 2}, someText(random, 4)]));
    const schema = values.length === 1 ? {const: values[0]} : {enum: values};
    return {schema, write: (r) => JSON.stringify(r.pick(values))};
  },
  nullable(random) {
    const {schema, write} = leaf[random.pick(['integer', 'string'])](random);
    return {schema: {...schema, type: [schema.type, 'null']}, write: (r) => r.chance(30) ? 'null' : write(r)};
  },
  notNull: () => ({schema: {not: {type: ['null', 'object', 'array', 'string']}}, write: (r) => r.pick(['true', '1', '2.5'])}),
  any: (random) => ({schema: random.pick([true, {}]), write: (r) => r.pick(['null', '{"a":[1, {"b":"c"}]}', '[]', '"x"', '1e5'])}),
};

const comma = (r) => r.pick([',', ', ']);
const colon = (r) => r.pick([':', ': ']);
const names = ['a', 'b', 'c', 'ab', 'name', 'x-y', 'é', 'a"b', '', 'type', 'a/b~c'];

export class Schemas {
  constructor(seed) {
    this.random = new Random(seed);
    this.defs = {};
    this.writers = {};
  }

  // {schema, write(random)}: write gives the text of a value.
  make() {
    const {schema, write} = this.any(this.random.between(1, 4));
    const whole = Object.keys(this.defs).length === 0 ? schema : {$defs: this.defs, ...(schema === true ? {} : schema)};
    return {schema: whole, write};
  }

  any(depth) {
    const random = this.random;
    if (depth === 0) return leaf[random.pick(Object.keys(leaf))](random);
    return this[random.pick(['object', 'object', 'array', 'tuple', 'anyOf', 'oneOf', 'allOf', 'reference', 'list', 'map', 'leaf'])](depth - 1);
  }

  leaf() { return leaf[this.random.pick(Object.keys(leaf))](this.random); }

  object(depth) {
    const random = this.random;
    const schema = {type: 'object', properties: {}};
    const parts = [];
    for (const name of new Set(Array.from({length: random.below(5)}, () => random.pick(names)))) {
      const value = this.any(depth);
      const required = random.chance(50);
      schema.properties[name] = value.schema;
      if (required) (schema.required ??= []).push(name);
      parts.push({name, required, write: value.write});
    }
    if (random.chance(50)) schema.additionalProperties = false;
    const free = schema.additionalProperties === undefined;
    if (free && random.chance(20)) {
      (schema.required ??= []).push('wanted');
      parts.push({name: 'wanted', required: true, write: leaf.any(random).write});
    }
    const least = parts.filter((part) => part.required).length;
    if (!free && least < parts.length && random.chance(20)) schema.minProperties = least + 1;
    if (random.chance(20)) schema.maxProperties = parts.length;
    const write = (r) => {
      for (;;) {
        const members = parts.filter((part) => part.required || r.chance(60))
            .map((part) => JSON.stringify(part.name) + colon(r) + part.write(r));
        if (members.length < (schema.minProperties ?? 0)) continue;
        if (free && schema.maxProperties === undefined && r.chance(40)) members.push(`"other key"${colon(r)}null`);
        return '{' + members.join(comma(r)) + '}';
      }
    };
    return {schema, write};
  }

  map(depth) {
    const random = this.random;
    const value = this.any(depth);
    const kind = random.below(4);
    const schema = {type: 'object', additionalProperties: value.schema};
    let keys = ['k1', 'other', 'é'];
    if (kind === 1) schema.propertyNames = {type: 'string', minLength: 1};
    if (kind === 2) {
      schema.propertyNames = {enum: keys = ['u', 'v', 'w"']};
    }
    if (kind === 3) {
      keys = ['x-a', 'x-b'];
      delete schema.additionalProperties;
      schema.patternProperties = {'^x-': value.schema};
      if (random.chance(50)) schema.additionalProperties = false;
    }
    if (random.chance(30)) schema.minProperties = 1;
    return {schema, write: (r) => '{' + keys.filter((_, i) => i === 0 || r.chance(50))
        .map((key) => JSON.stringify(key) + colon(r) + value.write(r)).join(comma(r)) + '}'};
  }

  array(depth) {
    const random = this.random;
    const item = this.any(depth);
    const schema = {type: 'array', items: item.schema};
    const low = random.chance(40) ? schema.minItems = random.below(3) : 0;
    if (random.chance(40)) schema.maxItems = low + random.below(3);
    return {schema, write: (r) => '[' + Array.from({length: low + r.below((schema.maxItems ?? low + 2) - low + 1)},
                                                    () => item.write(r)).join(comma(r)) + ']'};
  }

  tuple(depth) {
    const random = this.random;
    const items = Array.from({length: random.between(1, 3)}, () => this.any(depth));
    const schema = {type: 'array', prefixItems: items.map((item) => item.schema)};
    if (random.chance(60)) schema.items = false;
    const low = random.chance(60) ? schema.minItems = random.below(items.length + 1) : 0;
    return {schema, write: (r) => '[' + items.slice(0, r.between(low, items.length)).map((item) => item.write(r)).join(comma(r)) + ']'};
  }

  anyOf(depth) {
    const parts = Array.from({length: this.random.between(1, 3)}, () => this.any(depth));
    return {schema: {anyOf: parts.map((part) => part.schema)}, write: (r) => r.pick(parts).write(r)};
  }

  oneOf(depth) {
    if (this.random.chance(40)) {
      const parts = [leaf.null(), leaf.boolean(), leaf.integer(this.random), leaf.string(this.random)].slice(this.random.below(3));
      return {schema: {oneOf: parts.map((part) => part.schema)}, write: (r) => r.pick(parts).write(r)};
    }
    const parts = ['circle', 'square', 'line'].slice(0, this.random.between(2, 3)).map((kind) => {
      const value = this.any(depth);
      return {
        schema: {type: 'object', properties: {kind: {const: kind}, value: value.schema}, required: ['kind', 'value'], additionalProperties: false},
        write: (r) => `{"kind"${colon(r)}"${kind}"${comma(r)}"value"${colon(r)}${value.write(r)}}`,
      };
    });
    return {schema: {oneOf: parts.map((part) => part.schema)}, write: (r) => r.pick(parts).write(r)};
  }

  allOf(depth) {
    const first = this.any(depth);
    const second = this.any(depth);
    const own = this.any(depth);
    const schema = {
      type: 'object',
      properties: {own: own.schema},
      allOf: [{properties: {first: first.schema}, required: ['first']}, {properties: {second: second.schema, first: true}}],
    };
    if (this.random.chance(50)) schema.unevaluatedProperties = false;
    return {schema, write: (r) => {
      const members = [];
      if (r.chance(50)) members.push(`"own"${colon(r)}${own.write(r)}`);
      members.push(`"first"${colon(r)}${first.write(r)}`);
      if (r.chance(50)) members.push(`"second"${colon(r)}${second.write(r)}`);
      return '{' + members.join(comma(r)) + '}';
    }};
  }

  reference(depth) {
    const name = `d${Object.keys(this.defs).length}`;
    this.defs[name] = true;
    const {schema, write} = this.any(depth);
    this.defs[name] = schema;
    return {schema: {$ref: `#/$defs/${name}`, description: 'by reference'}, write};
  }

  // Recursive.
  list(depth) {
    const name = `list${Object.keys(this.defs).length}`;
    this.defs[name] = true;
    const value = this.any(depth);
    this.defs[name] = {
      type: 'object',
      properties: {value: value.schema, next: {anyOf: [{$ref: `#/$defs/${name}`}, {type: 'null'}]}},
      required: ['value', 'next'],
      additionalProperties: false,
    };
    const write = (r) => `{"value"${colon(r)}${value.write(r)}${comma(r)}"next"${colon(r)}${r.chance(30) ? write(r) : 'null'}}`;
    return {schema: {$ref: `#/$defs/${name}`}, write};
  }
}

// Schemas whose keywords may contradict each other or be refused: keywords of all kinds, drawn without thought. They may
// refer to #/$defs/shared, if `references`.
export function wildSchema(random, depth = 3, references = true) {
  if (depth === 0 || random.chance(5)) return random.pick([true, {}, {type: 'integer'}, {type: 'string'}, {type: 'null'}, {const: 'a'}, false]);
  const sub = () => wildSchema(random, depth - 1, references);
  const name = () => random.pick(['a', 'b', 'c', 'x-1']);
  const size = () => random.below(4);
  const keywords = {
    type: () => random.chance(70) ? random.pick(['object', 'array', 'string', 'integer', 'number', 'boolean', 'null'])
                                  : [random.pick(['object', 'string']), random.pick(['array', 'integer', 'null'])],
    properties: () => Object.fromEntries(Array.from({length: size()}, () => [name(), sub()])),
    required: () => [...new Set(Array.from({length: random.below(3)}, name))],
    additionalProperties: () => random.pick([false, true, sub()]),
    patternProperties: () => ({[random.pick(['^x-', 'a', '^[bc]$'])]: sub()}),
    propertyNames: () => random.pick([{maxLength: 3}, {enum: ['a', 'b', 'q']}, {pattern: '^[a-x]'}, sub()]),
    minProperties: size, maxProperties: size, minItems: size, maxItems: size, minLength: size, maxLength: size,
    items: sub,
    prefixItems: () => Array.from({length: random.between(1, 2)}, sub),
    enum: () => [null, true, 1, 2.5, -3, 'a', 'bb', 'x-1', [], [1, 'a'], {}, {a: 1}, {b: 'a', c: null}].filter(() => random.chance(50)).concat(['z']),
    const: () => random.pick([1, 'a', {a: 1}, [1], null]),
    minimum: () => random.between(-5, 5) / random.pick([1, 2, 10]),
    maximum: () => random.between(-5, 9) / random.pick([1, 2, 10]),
    exclusiveMinimum: () => random.between(-5, 5) / random.pick([1, 2, 10]),
    exclusiveMaximum: () => random.between(-5, 9) / random.pick([1, 2, 10]),
    multipleOf: () => random.pick([1, 2, 3]),
    pattern: () => random.pick(patterns)[0],
    format: () => random.pick(Object.keys(formats)),
    anyOf: () => [sub(), sub()],
    oneOf: () => [sub(), sub()],
    allOf: () => [sub(), sub()],
    not: () => random.pick([{type: 'null'}, {type: ['string', 'array']}]),
    dependentRequired: () => ({[name()]: [name()]}),
    dependentSchemas: () => ({[name()]: sub()}),
    unevaluatedProperties: () => random.pick([false, sub()]),
    $ref: () => '#/$defs/shared',
  };
  const schema = {};
  if (random.chance(70)) schema.type = keywords.type();
  const about = {
    object: ['properties', 'required', 'additionalProperties', 'patternProperties', 'propertyNames', 'minProperties',
             'maxProperties', 'dependentRequired', 'dependentSchemas', 'unevaluatedProperties'],
    array: ['items', 'prefixItems', 'minItems', 'maxItems'],
    string: ['minLength', 'maxLength', 'pattern', 'format'],
    integer: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
    number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'],
  };
  if (!references) delete keywords.$ref;
  const near = about[Array.isArray(schema.type) ? schema.type[0] : schema.type] ?? Object.keys(keywords);
  for (let i = random.below(4); i > 0; --i) {
    const keyword = random.chance(75) ? random.pick(near) : random.pick(['enum', 'const', 'anyOf', 'oneOf', 'allOf', 'not', references ? '$ref' : 'anyOf']);
    schema[keyword] = keywords[keyword]();
  }
  return schema;
}
